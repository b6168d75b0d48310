from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChangeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHANGE_KIND_UNSPECIFIED: _ClassVar[ChangeKind]
    CHANGE_KIND_RESOURCE: _ClassVar[ChangeKind]
    CHANGE_KIND_PLAN: _ClassVar[ChangeKind]
    CHANGE_KIND_TENANT: _ClassVar[ChangeKind]
    CHANGE_KIND_AGENT: _ClassVar[ChangeKind]
    CHANGE_KIND_OVERRIDE: _ClassVar[ChangeKind]
    CHANGE_KIND_SETTINGS: _ClassVar[ChangeKind]
    CHANGE_KIND_KEY: _ClassVar[ChangeKind]
    CHANGE_KIND_WEBHOOK: _ClassVar[ChangeKind]
    CHANGE_KIND_JOB: _ClassVar[ChangeKind]
    CHANGE_KIND_USAGE: _ClassVar[ChangeKind]
    CHANGE_KIND_RESERVATION: _ClassVar[ChangeKind]
CHANGE_KIND_UNSPECIFIED: ChangeKind
CHANGE_KIND_RESOURCE: ChangeKind
CHANGE_KIND_PLAN: ChangeKind
CHANGE_KIND_TENANT: ChangeKind
CHANGE_KIND_AGENT: ChangeKind
CHANGE_KIND_OVERRIDE: ChangeKind
CHANGE_KIND_SETTINGS: ChangeKind
CHANGE_KIND_KEY: ChangeKind
CHANGE_KIND_WEBHOOK: ChangeKind
CHANGE_KIND_JOB: ChangeKind
CHANGE_KIND_USAGE: ChangeKind
CHANGE_KIND_RESERVATION: ChangeKind

class Change(_message.Message):
    __slots__ = ("id", "change_time", "caller", "address", "rpc", "kind", "thing", "tenant", "before", "after", "request_id", "revision")
    ID_FIELD_NUMBER: _ClassVar[int]
    CHANGE_TIME_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RPC_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    THING_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    id: str
    change_time: _timestamp_pb2.Timestamp
    caller: str
    address: str
    rpc: str
    kind: ChangeKind
    thing: str
    tenant: str
    before: str
    after: str
    request_id: str
    revision: int
    def __init__(self, id: _Optional[str] = ..., change_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., caller: _Optional[str] = ..., address: _Optional[str] = ..., rpc: _Optional[str] = ..., kind: _Optional[_Union[ChangeKind, str]] = ..., thing: _Optional[str] = ..., tenant: _Optional[str] = ..., before: _Optional[str] = ..., after: _Optional[str] = ..., request_id: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class ListChangesRequest(_message.Message):
    __slots__ = ("tenant", "kind", "thing", "caller", "rpc", "start_time", "end_time", "page_size", "page_token")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    THING_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    RPC_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    kind: ChangeKind
    thing: str
    caller: str
    rpc: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    page_size: int
    page_token: str
    def __init__(self, tenant: _Optional[str] = ..., kind: _Optional[_Union[ChangeKind, str]] = ..., thing: _Optional[str] = ..., caller: _Optional[str] = ..., rpc: _Optional[str] = ..., start_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListChangesResponse(_message.Message):
    __slots__ = ("changes", "next_page_token")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[Change]
    next_page_token: str
    def __init__(self, changes: _Optional[_Iterable[_Union[Change, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
