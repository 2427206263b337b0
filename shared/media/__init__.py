"""Files of messages: stored once by their content, in local files or S3, with a row that says whose they are."""

from shared.media.keeping import Media, open_media

__all__ = ["Media", "open_media"]
