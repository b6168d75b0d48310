from tope.v1 import usage_pb2 as _usage_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_KIND_UNSPECIFIED: _ClassVar[EventKind]
    EVENT_KIND_THRESHOLD_REACHED: _ClassVar[EventKind]
    EVENT_KIND_THRESHOLD_CLEARED: _ClassVar[EventKind]
    EVENT_KIND_LIMIT_REACHED: _ClassVar[EventKind]
    EVENT_KIND_RESERVE_REFUSED: _ClassVar[EventKind]
    EVENT_KIND_RESERVATION_EXPIRED: _ClassVar[EventKind]
    EVENT_KIND_COMMITTED_LATE: _ClassVar[EventKind]
    EVENT_KIND_WINDOW_CLOSED: _ClassVar[EventKind]
    EVENT_KIND_USAGE_RESET: _ClassVar[EventKind]
    EVENT_KIND_POLICY_CHANGED: _ClassVar[EventKind]
    EVENT_KIND_WEBHOOK_DISABLED: _ClassVar[EventKind]
    EVENT_KIND_BOOKS_DISAGREE: _ClassVar[EventKind]
EVENT_KIND_UNSPECIFIED: EventKind
EVENT_KIND_THRESHOLD_REACHED: EventKind
EVENT_KIND_THRESHOLD_CLEARED: EventKind
EVENT_KIND_LIMIT_REACHED: EventKind
EVENT_KIND_RESERVE_REFUSED: EventKind
EVENT_KIND_RESERVATION_EXPIRED: EventKind
EVENT_KIND_COMMITTED_LATE: EventKind
EVENT_KIND_WINDOW_CLOSED: EventKind
EVENT_KIND_USAGE_RESET: EventKind
EVENT_KIND_POLICY_CHANGED: EventKind
EVENT_KIND_WEBHOOK_DISABLED: EventKind
EVENT_KIND_BOOKS_DISAGREE: EventKind

class Event(_message.Message):
    __slots__ = ("sequence", "tenant", "tenant_sequence", "kind", "occur_time", "balances", "percent", "generation", "requested", "reservation", "adjusted", "reason", "operator", "change", "webhook", "faults", "caller")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TENANT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    OCCUR_TIME_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    ADJUSTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    WEBHOOK_FIELD_NUMBER: _ClassVar[int]
    FAULTS_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    tenant: str
    tenant_sequence: int
    kind: EventKind
    occur_time: _timestamp_pb2.Timestamp
    balances: _containers.RepeatedCompositeFieldContainer[_usage_pb2.Balance]
    percent: int
    generation: int
    requested: int
    reservation: _usage_pb2.Reservation
    adjusted: int
    reason: str
    operator: str
    change: PolicyChange
    webhook: str
    faults: int
    caller: str
    def __init__(self, sequence: _Optional[int] = ..., tenant: _Optional[str] = ..., tenant_sequence: _Optional[int] = ..., kind: _Optional[_Union[EventKind, str]] = ..., occur_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., balances: _Optional[_Iterable[_Union[_usage_pb2.Balance, _Mapping]]] = ..., percent: _Optional[int] = ..., generation: _Optional[int] = ..., requested: _Optional[int] = ..., reservation: _Optional[_Union[_usage_pb2.Reservation, _Mapping]] = ..., adjusted: _Optional[int] = ..., reason: _Optional[str] = ..., operator: _Optional[str] = ..., change: _Optional[_Union[PolicyChange, _Mapping]] = ..., webhook: _Optional[str] = ..., faults: _Optional[int] = ..., caller: _Optional[str] = ...) -> None: ...

class PolicyChange(_message.Message):
    __slots__ = ("subject", "id", "action", "fields")
    class Subject(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SUBJECT_UNSPECIFIED: _ClassVar[PolicyChange.Subject]
        SUBJECT_RESOURCE: _ClassVar[PolicyChange.Subject]
        SUBJECT_PLAN: _ClassVar[PolicyChange.Subject]
        SUBJECT_TENANT: _ClassVar[PolicyChange.Subject]
        SUBJECT_AGENT: _ClassVar[PolicyChange.Subject]
        SUBJECT_OVERRIDE: _ClassVar[PolicyChange.Subject]
        SUBJECT_SETTINGS: _ClassVar[PolicyChange.Subject]
        SUBJECT_KEY: _ClassVar[PolicyChange.Subject]
    SUBJECT_UNSPECIFIED: PolicyChange.Subject
    SUBJECT_RESOURCE: PolicyChange.Subject
    SUBJECT_PLAN: PolicyChange.Subject
    SUBJECT_TENANT: PolicyChange.Subject
    SUBJECT_AGENT: PolicyChange.Subject
    SUBJECT_OVERRIDE: PolicyChange.Subject
    SUBJECT_SETTINGS: PolicyChange.Subject
    SUBJECT_KEY: PolicyChange.Subject
    class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ACTION_UNSPECIFIED: _ClassVar[PolicyChange.Action]
        ACTION_CREATED: _ClassVar[PolicyChange.Action]
        ACTION_UPDATED: _ClassVar[PolicyChange.Action]
        ACTION_DELETED: _ClassVar[PolicyChange.Action]
    ACTION_UNSPECIFIED: PolicyChange.Action
    ACTION_CREATED: PolicyChange.Action
    ACTION_UPDATED: PolicyChange.Action
    ACTION_DELETED: PolicyChange.Action
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    subject: PolicyChange.Subject
    id: str
    action: PolicyChange.Action
    fields: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, subject: _Optional[_Union[PolicyChange.Subject, str]] = ..., id: _Optional[str] = ..., action: _Optional[_Union[PolicyChange.Action, str]] = ..., fields: _Optional[_Iterable[str]] = ...) -> None: ...
