"""The protobuf messages of neonize, in one place: importing this module loads its Go library.

neonize ships no type information that mypy accepts, so each class is `Any` beyond this line.
"""

from typing import Any

from neonize.proto.waAdv import WAAdv_pb2
from neonize.proto.waCert import WACert_pb2
from neonize.proto.waE2E import WAWebProtobufsE2E_pb2
from neonize.proto.waHistorySync import WAWebProtobufsHistorySync_pb2
from neonize.proto.waWa6 import WAWebProtobufsWa6_pb2

DeviceIdentity: Any = WAAdv_pb2.ADVDeviceIdentity
SignedDeviceIdentity: Any = WAAdv_pb2.ADVSignedDeviceIdentity
SignedDeviceIdentityHMAC: Any = WAAdv_pb2.ADVSignedDeviceIdentityHMAC
CertificateChain: Any = WACert_pb2.CertChain
NoiseCertificate: Any = WACert_pb2.CertChain.NoiseCertificate
HandshakeMessage: Any = WAWebProtobufsWa6_pb2.HandshakeMessage
ClientPayload: Any = WAWebProtobufsWa6_pb2.ClientPayload
Message: Any = WAWebProtobufsE2E_pb2.Message
PollVote: Any = WAWebProtobufsE2E_pb2.PollVoteMessage
HistorySync: Any = WAWebProtobufsHistorySync_pb2.HistorySync
ContextInfo: Any = WAWebProtobufsE2E_pb2.ContextInfo
