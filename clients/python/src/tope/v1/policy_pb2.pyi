from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Uncovered(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNCOVERED_UNSPECIFIED: _ClassVar[Uncovered]
    UNCOVERED_METER: _ClassVar[Uncovered]
    UNCOVERED_REFUSE: _ClassVar[Uncovered]

class Anchor(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANCHOR_UNSPECIFIED: _ClassVar[Anchor]
    ANCHOR_LIMIT: _ClassVar[Anchor]
    ANCHOR_TENANT: _ClassVar[Anchor]

class Period(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PERIOD_UNSPECIFIED: _ClassVar[Period]
    PERIOD_MINUTE: _ClassVar[Period]
    PERIOD_HOUR: _ClassVar[Period]
    PERIOD_DAY: _ClassVar[Period]
    PERIOD_WEEK: _ClassVar[Period]
    PERIOD_MONTH: _ClassVar[Period]
    PERIOD_YEAR: _ClassVar[Period]
    PERIOD_LIFETIME: _ClassVar[Period]
    PERIOD_ROLLING: _ClassVar[Period]

class Dimension(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIMENSION_UNSPECIFIED: _ClassVar[Dimension]
    DIMENSION_AGENT: _ClassVar[Dimension]
    DIMENSION_USER: _ClassVar[Dimension]
    DIMENSION_MODEL: _ClassVar[Dimension]

class Enforcement(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENFORCEMENT_UNSPECIFIED: _ClassVar[Enforcement]
    ENFORCEMENT_HARD: _ClassVar[Enforcement]
    ENFORCEMENT_SOFT: _ClassVar[Enforcement]
    ENFORCEMENT_OBSERVE: _ClassVar[Enforcement]

class TenantState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TENANT_STATE_UNSPECIFIED: _ClassVar[TenantState]
    TENANT_STATE_ACTIVE: _ClassVar[TenantState]
    TENANT_STATE_SUSPENDED: _ClassVar[TenantState]
UNCOVERED_UNSPECIFIED: Uncovered
UNCOVERED_METER: Uncovered
UNCOVERED_REFUSE: Uncovered
ANCHOR_UNSPECIFIED: Anchor
ANCHOR_LIMIT: Anchor
ANCHOR_TENANT: Anchor
PERIOD_UNSPECIFIED: Period
PERIOD_MINUTE: Period
PERIOD_HOUR: Period
PERIOD_DAY: Period
PERIOD_WEEK: Period
PERIOD_MONTH: Period
PERIOD_YEAR: Period
PERIOD_LIFETIME: Period
PERIOD_ROLLING: Period
DIMENSION_UNSPECIFIED: Dimension
DIMENSION_AGENT: Dimension
DIMENSION_USER: Dimension
DIMENSION_MODEL: Dimension
ENFORCEMENT_UNSPECIFIED: Enforcement
ENFORCEMENT_HARD: Enforcement
ENFORCEMENT_SOFT: Enforcement
ENFORCEMENT_OBSERVE: Enforcement
TENANT_STATE_UNSPECIFIED: TenantState
TENANT_STATE_ACTIVE: TenantState
TENANT_STATE_SUSPENDED: TenantState

class Resource(_message.Message):
    __slots__ = ("id", "display_name", "unit", "create_time", "update_time", "etag")
    ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    id: str
    display_name: str
    unit: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    etag: str
    def __init__(self, id: _Optional[str] = ..., display_name: _Optional[str] = ..., unit: _Optional[str] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("id", "display_name", "limits", "create_time", "update_time", "uncovered", "etag", "warnings")
    ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UNCOVERED_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    id: str
    display_name: str
    limits: _containers.RepeatedCompositeFieldContainer[Limit]
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    uncovered: Uncovered
    etag: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., display_name: _Optional[str] = ..., limits: _Optional[_Iterable[_Union[Limit, _Mapping]]] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., uncovered: _Optional[_Union[Uncovered, str]] = ..., etag: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class Limit(_message.Message):
    __slots__ = ("id", "resource", "quantity", "period", "anchor_day", "agent", "user", "model", "per", "enforcement", "thresholds", "interval", "anchor_weekday", "anchor_month", "anchor_minute", "origin_date", "anchor", "labels", "per_labels", "duration", "carry")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_DAY_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PER_FIELD_NUMBER: _ClassVar[int]
    ENFORCEMENT_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_WEEKDAY_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_MONTH_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_MINUTE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_DATE_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PER_LABELS_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    CARRY_FIELD_NUMBER: _ClassVar[int]
    id: str
    resource: str
    quantity: int
    period: Period
    anchor_day: int
    agent: str
    user: str
    model: str
    per: _containers.RepeatedScalarFieldContainer[Dimension]
    enforcement: Enforcement
    thresholds: _containers.RepeatedScalarFieldContainer[int]
    interval: int
    anchor_weekday: int
    anchor_month: int
    anchor_minute: int
    origin_date: str
    anchor: Anchor
    labels: _containers.ScalarMap[str, str]
    per_labels: _containers.RepeatedScalarFieldContainer[str]
    duration: _duration_pb2.Duration
    carry: Carry
    def __init__(self, id: _Optional[str] = ..., resource: _Optional[str] = ..., quantity: _Optional[int] = ..., period: _Optional[_Union[Period, str]] = ..., anchor_day: _Optional[int] = ..., agent: _Optional[str] = ..., user: _Optional[str] = ..., model: _Optional[str] = ..., per: _Optional[_Iterable[_Union[Dimension, str]]] = ..., enforcement: _Optional[_Union[Enforcement, str]] = ..., thresholds: _Optional[_Iterable[int]] = ..., interval: _Optional[int] = ..., anchor_weekday: _Optional[int] = ..., anchor_month: _Optional[int] = ..., anchor_minute: _Optional[int] = ..., origin_date: _Optional[str] = ..., anchor: _Optional[_Union[Anchor, str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., per_labels: _Optional[_Iterable[str]] = ..., duration: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., carry: _Optional[_Union[Carry, _Mapping]] = ...) -> None: ...

class Carry(_message.Message):
    __slots__ = ("percent", "quantity")
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    percent: int
    quantity: int
    def __init__(self, percent: _Optional[int] = ..., quantity: _Optional[int] = ...) -> None: ...

class PolicySettings(_message.Message):
    __slots__ = ("default_plan", "default_zone", "update_time", "etag")
    DEFAULT_PLAN_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_ZONE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    default_plan: str
    default_zone: str
    update_time: _timestamp_pb2.Timestamp
    etag: str
    def __init__(self, default_plan: _Optional[str] = ..., default_zone: _Optional[str] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class Tenant(_message.Message):
    __slots__ = ("id", "display_name", "plan", "zone", "state", "create_time", "update_time", "anchor_time", "etag", "warnings", "next_plan")
    ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ANCHOR_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PLAN_FIELD_NUMBER: _ClassVar[int]
    id: str
    display_name: str
    plan: str
    zone: str
    state: TenantState
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    anchor_time: _timestamp_pb2.Timestamp
    etag: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    next_plan: NextPlan
    def __init__(self, id: _Optional[str] = ..., display_name: _Optional[str] = ..., plan: _Optional[str] = ..., zone: _Optional[str] = ..., state: _Optional[_Union[TenantState, str]] = ..., create_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., anchor_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ..., next_plan: _Optional[_Union[NextPlan, _Mapping]] = ...) -> None: ...

class NextPlan(_message.Message):
    __slots__ = ("plan", "effective_time")
    PLAN_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_TIME_FIELD_NUMBER: _ClassVar[int]
    plan: str
    effective_time: _timestamp_pb2.Timestamp
    def __init__(self, plan: _Optional[str] = ..., effective_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
