"""What each command does: functions whose signatures are its options."""
