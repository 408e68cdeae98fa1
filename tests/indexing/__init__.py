"""Tests of how a folder becomes vectors."""
