"""Going out to URLs that a tenant chose, for webhooks and for media: only to permitted addresses, bounded in all."""
