"""What every device must do: `pytest --pyargs cpuruntime.testing --device NAME`, for devices of any distribution."""
