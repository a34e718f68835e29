"""Recordings of event cameras: one format a file."""

from snnc.data.recordings.recording import Events, Recording, format_of, open_recording, recordings, suffixes

__all__ = ["Events", "Recording", "format_of", "open_recording", "recordings", "suffixes"]
