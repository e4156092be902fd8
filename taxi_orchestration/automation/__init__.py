"""What starts runs: jobs, schedules, sensors and conditions."""
