"""Run the controller under test: as a thread with its own loop, or as a process."""
