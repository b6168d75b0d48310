from tope.v1 import policy_pb2 as _policy_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReservationState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESERVATION_STATE_UNSPECIFIED: _ClassVar[ReservationState]
    RESERVATION_STATE_RESERVED: _ClassVar[ReservationState]
    RESERVATION_STATE_COMMITTED: _ClassVar[ReservationState]
    RESERVATION_STATE_RELEASED: _ClassVar[ReservationState]
    RESERVATION_STATE_EXPIRED: _ClassVar[ReservationState]

class OnExpiry(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_EXPIRY_UNSPECIFIED: _ClassVar[OnExpiry]
    ON_EXPIRY_RELEASE: _ClassVar[OnExpiry]
    ON_EXPIRY_CHARGE: _ClassVar[OnExpiry]
RESERVATION_STATE_UNSPECIFIED: ReservationState
RESERVATION_STATE_RESERVED: ReservationState
RESERVATION_STATE_COMMITTED: ReservationState
RESERVATION_STATE_RELEASED: ReservationState
RESERVATION_STATE_EXPIRED: ReservationState
ON_EXPIRY_UNSPECIFIED: OnExpiry
ON_EXPIRY_RELEASE: OnExpiry
ON_EXPIRY_CHARGE: OnExpiry

class Reservation(_message.Message):
    __slots__ = ("name", "tenant", "agent", "user", "model", "state", "amounts", "create_time", "expire_time", "settle_time", "on_expiry", "late", "labels", "request_id", "amendments", "served", "occurred_time")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    AMOUNTS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    SETTLE_TIME_FIELD_NUMBER: _ClassVar[int]
    ON_EXPIRY_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    AMENDMENTS_FIELD_NUMBER: _ClassVar[int]
    SERVED_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    tenant: str
    agent: str
    user: str
    model: str
    state: ReservationState
    amounts: _containers.RepeatedCompositeFieldContainer[ReservationAmount]
    create_time: _timestamp_pb2.Timestamp
    expire_time: _timestamp_pb2.Timestamp
    settle_time: _timestamp_pb2.Timestamp
    on_expiry: OnExpiry
    late: bool
    labels: _containers.ScalarMap[str, str]
    request_id: str
    amendments: _containers.RepeatedCompositeFieldContainer[Amendment]
    served: Served
    occurred_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., tenant: _Optional[str] = ..., agent: _Optional[str] = ..., user: _Optional[str] = ..., model: _Optional[str] = ..., state: _Optional[_Union[ReservationState, str]] = ..., amounts: _Optional[_Iterable[_Union[ReservationAmount, _Mapping]]] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., expire_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., settle_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., on_expiry: _Optional[_Union[OnExpiry, str]] = ..., late: bool = ..., labels: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ..., amendments: _Optional[_Iterable[_Union[Amendment, _Mapping]]] = ..., served: _Optional[_Union[Served, _Mapping]] = ..., occurred_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Served(_message.Message):
    __slots__ = ("agent", "user", "model")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    agent: str
    user: str
    model: str
    def __init__(self, agent: _Optional[str] = ..., user: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class Amendment(_message.Message):
    __slots__ = ("amend_time", "operator", "reason", "amounts")
    AMEND_TIME_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    AMOUNTS_FIELD_NUMBER: _ClassVar[int]
    amend_time: _timestamp_pb2.Timestamp
    operator: str
    reason: str
    amounts: _containers.RepeatedCompositeFieldContainer[AmendedAmount]
    def __init__(self, amend_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., operator: _Optional[str] = ..., reason: _Optional[str] = ..., amounts: _Optional[_Iterable[_Union[AmendedAmount, _Mapping]]] = ...) -> None: ...

class AmendedAmount(_message.Message):
    __slots__ = ("resource", "before", "after")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    resource: str
    before: int
    after: int
    def __init__(self, resource: _Optional[str] = ..., before: _Optional[int] = ..., after: _Optional[int] = ...) -> None: ...

class ReservationAmount(_message.Message):
    __slots__ = ("resource", "reserved", "committed", "overrun")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    OVERRUN_FIELD_NUMBER: _ClassVar[int]
    resource: str
    reserved: int
    committed: int
    overrun: int
    def __init__(self, resource: _Optional[str] = ..., reserved: _Optional[int] = ..., committed: _Optional[int] = ..., overrun: _Optional[int] = ...) -> None: ...

class Balance(_message.Message):
    __slots__ = ("resource", "limit_id", "quantity", "allowance", "committed", "reserved", "remaining", "window_start", "window_end", "counted_since", "enforcement", "agent", "user", "model", "exceeded", "period", "refused", "labels", "source", "carried")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    ALLOWANCE_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    WINDOW_START_FIELD_NUMBER: _ClassVar[int]
    WINDOW_END_FIELD_NUMBER: _ClassVar[int]
    COUNTED_SINCE_FIELD_NUMBER: _ClassVar[int]
    ENFORCEMENT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXCEEDED_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    CARRIED_FIELD_NUMBER: _ClassVar[int]
    resource: str
    limit_id: str
    quantity: int
    allowance: int
    committed: int
    reserved: int
    remaining: int
    window_start: _timestamp_pb2.Timestamp
    window_end: _timestamp_pb2.Timestamp
    counted_since: _timestamp_pb2.Timestamp
    enforcement: _policy_pb2.Enforcement
    agent: str
    user: str
    model: str
    exceeded: bool
    period: _policy_pb2.Period
    refused: int
    labels: _containers.ScalarMap[str, str]
    source: LimitSource
    carried: int
    def __init__(self, resource: _Optional[str] = ..., limit_id: _Optional[str] = ..., quantity: _Optional[int] = ..., allowance: _Optional[int] = ..., committed: _Optional[int] = ..., reserved: _Optional[int] = ..., remaining: _Optional[int] = ..., window_start: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., window_end: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., counted_since: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., enforcement: _Optional[_Union[_policy_pb2.Enforcement, str]] = ..., agent: _Optional[str] = ..., user: _Optional[str] = ..., model: _Optional[str] = ..., exceeded: bool = ..., period: _Optional[_Union[_policy_pb2.Period, str]] = ..., refused: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., source: _Optional[_Union[LimitSource, _Mapping]] = ..., carried: _Optional[int] = ...) -> None: ...

class LimitSource(_message.Message):
    __slots__ = ("plan", "agent", "override", "override_end_time")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_END_TIME_FIELD_NUMBER: _ClassVar[int]
    plan: str
    agent: str
    override: str
    override_end_time: _timestamp_pb2.Timestamp
    def __init__(self, plan: _Optional[str] = ..., agent: _Optional[str] = ..., override: _Optional[str] = ..., override_end_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
