"""What each command does and says; the library below says nothing."""
