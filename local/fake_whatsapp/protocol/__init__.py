"""The transport of WhatsApp Web: keys, Noise, frames and binary nodes."""
