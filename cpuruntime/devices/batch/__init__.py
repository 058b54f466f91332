"""BATCH: requests that arrive close together are one batch of another device."""

from cpuruntime.devices.batch.plugin import BatchPlugin

__all__ = ["BatchPlugin"]
