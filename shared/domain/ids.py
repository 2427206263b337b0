"""The ids that cross borders, each a type of its own so that none is passed for another."""

from typing import NewType
from uuid import UUID

TenantId = NewType("TenantId", UUID)
ConnectionId = NewType("ConnectionId", UUID)
MessageId = NewType("MessageId", UUID)
EventId = NewType("EventId", UUID)
EndpointId = NewType("EndpointId", UUID)
DeliveryId = NewType("DeliveryId", UUID)
HostId = NewType("HostId", str)

# WhatsApp's own id of a message stanza, such as "3EB0C767D26A1D8E2B0F".
WireId = NewType("WireId", str)

# Everything belongs to this tenant until tenants are a feature; the column is there from the first migration.
DEFAULT_TENANT = TenantId(UUID(int=0))
