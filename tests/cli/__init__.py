"""Tests of how one types it."""
