"""The pack controller: polls, verifies, installs, reports."""
