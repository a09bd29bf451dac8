"""Tests against the lab's real servers."""
