"""Timelines: what happened in a process is recorded in rings of events, and written as a file for Perfetto.

`recorder` stores events, `timeline` turns them into the file. While no timeline is open nothing is recorded.
"""
