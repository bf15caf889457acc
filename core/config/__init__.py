"""Settings, load options, schedules and folders."""
