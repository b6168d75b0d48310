from tope.v1 import event_pb2 as _event_pb2
from tope.v1 import usage_pb2 as _usage_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tope.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Amount(_message.Message):
    __slots__ = ("resource", "quantity")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    resource: str
    quantity: int
    def __init__(self, resource: _Optional[str] = ..., quantity: _Optional[int] = ...) -> None: ...

class ReserveAmount(_message.Message):
    __slots__ = ("resource", "quantity", "minimum")
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    resource: str
    quantity: int
    minimum: int
    def __init__(self, resource: _Optional[str] = ..., quantity: _Optional[int] = ..., minimum: _Optional[int] = ...) -> None: ...

class ReserveRequest(_message.Message):
    __slots__ = ("request_id", "tenant", "agent", "user", "model", "amounts", "ttl", "allow_partial", "on_expiry", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    AMOUNTS_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    ALLOW_PARTIAL_FIELD_NUMBER: _ClassVar[int]
    ON_EXPIRY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    tenant: str
    agent: str
    user: str
    model: str
    amounts: _containers.RepeatedCompositeFieldContainer[ReserveAmount]
    ttl: _duration_pb2.Duration
    allow_partial: bool
    on_expiry: _usage_pb2.OnExpiry
    labels: _containers.ScalarMap[str, str]
    def __init__(self, request_id: _Optional[str] = ..., tenant: _Optional[str] = ..., agent: _Optional[str] = ..., user: _Optional[str] = ..., model: _Optional[str] = ..., amounts: _Optional[_Iterable[_Union[ReserveAmount, _Mapping]]] = ..., ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., allow_partial: bool = ..., on_expiry: _Optional[_Union[_usage_pb2.OnExpiry, str]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ReserveResponse(_message.Message):
    __slots__ = ("reservation", "balances")
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    reservation: _usage_pb2.Reservation
    balances: _containers.RepeatedCompositeFieldContainer[_usage_pb2.Balance]
    def __init__(self, reservation: _Optional[_Union[_usage_pb2.Reservation, _Mapping]] = ..., balances: _Optional[_Iterable[_Union[_usage_pb2.Balance, _Mapping]]] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("reservation", "tenant", "reserve_request_id", "amounts", "agent", "user", "model")
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    RESERVE_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNTS_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    reservation: str
    tenant: str
    reserve_request_id: str
    amounts: _containers.RepeatedCompositeFieldContainer[Amount]
    agent: str
    user: str
    model: str
    def __init__(self, reservation: _Optional[str] = ..., tenant: _Optional[str] = ..., reserve_request_id: _Optional[str] = ..., amounts: _Optional[_Iterable[_Union[Amount, _Mapping]]] = ..., agent: _Optional[str] = ..., user: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("reservation", "balances")
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    reservation: _usage_pb2.Reservation
    balances: _containers.RepeatedCompositeFieldContainer[_usage_pb2.Balance]
    def __init__(self, reservation: _Optional[_Union[_usage_pb2.Reservation, _Mapping]] = ..., balances: _Optional[_Iterable[_Union[_usage_pb2.Balance, _Mapping]]] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("reservation", "tenant", "reserve_request_id")
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    RESERVE_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    reservation: str
    tenant: str
    reserve_request_id: str
    def __init__(self, reservation: _Optional[str] = ..., tenant: _Optional[str] = ..., reserve_request_id: _Optional[str] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ("reservation", "balances")
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    reservation: _usage_pb2.Reservation
    balances: _containers.RepeatedCompositeFieldContainer[_usage_pb2.Balance]
    def __init__(self, reservation: _Optional[_Union[_usage_pb2.Reservation, _Mapping]] = ..., balances: _Optional[_Iterable[_Union[_usage_pb2.Balance, _Mapping]]] = ...) -> None: ...

class ExtendRequest(_message.Message):
    __slots__ = ("reservation", "tenant", "reserve_request_id", "request_id", "ttl", "amounts")
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    RESERVE_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    AMOUNTS_FIELD_NUMBER: _ClassVar[int]
    reservation: str
    tenant: str
    reserve_request_id: str
    request_id: str
    ttl: _duration_pb2.Duration
    amounts: _containers.RepeatedCompositeFieldContainer[Amount]
    def __init__(self, reservation: _Optional[str] = ..., tenant: _Optional[str] = ..., reserve_request_id: _Optional[str] = ..., request_id: _Optional[str] = ..., ttl: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., amounts: _Optional[_Iterable[_Union[Amount, _Mapping]]] = ...) -> None: ...

class ExtendResponse(_message.Message):
    __slots__ = ("reservation", "balances")
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    reservation: _usage_pb2.Reservation
    balances: _containers.RepeatedCompositeFieldContainer[_usage_pb2.Balance]
    def __init__(self, reservation: _Optional[_Union[_usage_pb2.Reservation, _Mapping]] = ..., balances: _Optional[_Iterable[_Union[_usage_pb2.Balance, _Mapping]]] = ...) -> None: ...

class RecordRequest(_message.Message):
    __slots__ = ("request_id", "tenant", "agent", "user", "model", "amounts", "labels", "occurred_time")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    AMOUNTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_TIME_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    tenant: str
    agent: str
    user: str
    model: str
    amounts: _containers.RepeatedCompositeFieldContainer[Amount]
    labels: _containers.ScalarMap[str, str]
    occurred_time: _timestamp_pb2.Timestamp
    def __init__(self, request_id: _Optional[str] = ..., tenant: _Optional[str] = ..., agent: _Optional[str] = ..., user: _Optional[str] = ..., model: _Optional[str] = ..., amounts: _Optional[_Iterable[_Union[Amount, _Mapping]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., occurred_time: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RecordResponse(_message.Message):
    __slots__ = ("reservation", "balances", "applied")
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    reservation: _usage_pb2.Reservation
    balances: _containers.RepeatedCompositeFieldContainer[_usage_pb2.Balance]
    applied: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, reservation: _Optional[_Union[_usage_pb2.Reservation, _Mapping]] = ..., balances: _Optional[_Iterable[_Union[_usage_pb2.Balance, _Mapping]]] = ..., applied: _Optional[_Iterable[int]] = ...) -> None: ...

class AmendRequest(_message.Message):
    __slots__ = ("reservation", "tenant", "reserve_request_id", "amounts", "reason", "operator")
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    RESERVE_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    reservation: str
    tenant: str
    reserve_request_id: str
    amounts: _containers.RepeatedCompositeFieldContainer[Amount]
    reason: str
    operator: str
    def __init__(self, reservation: _Optional[str] = ..., tenant: _Optional[str] = ..., reserve_request_id: _Optional[str] = ..., amounts: _Optional[_Iterable[_Union[Amount, _Mapping]]] = ..., reason: _Optional[str] = ..., operator: _Optional[str] = ...) -> None: ...

class AmendResponse(_message.Message):
    __slots__ = ("reservation", "balances")
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    reservation: _usage_pb2.Reservation
    balances: _containers.RepeatedCompositeFieldContainer[_usage_pb2.Balance]
    def __init__(self, reservation: _Optional[_Union[_usage_pb2.Reservation, _Mapping]] = ..., balances: _Optional[_Iterable[_Union[_usage_pb2.Balance, _Mapping]]] = ...) -> None: ...

class CheckRequest(_message.Message):
    __slots__ = ("tenant", "agent", "user", "model", "amounts", "allow_partial", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TENANT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    AMOUNTS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_PARTIAL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    agent: str
    user: str
    model: str
    amounts: _containers.RepeatedCompositeFieldContainer[ReserveAmount]
    allow_partial: bool
    labels: _containers.ScalarMap[str, str]
    def __init__(self, tenant: _Optional[str] = ..., agent: _Optional[str] = ..., user: _Optional[str] = ..., model: _Optional[str] = ..., amounts: _Optional[_Iterable[_Union[ReserveAmount, _Mapping]]] = ..., allow_partial: bool = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class CheckResponse(_message.Message):
    __slots__ = ("allowed", "verdicts", "granted", "retry_delay", "suspended", "too_many_counters")
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    RETRY_DELAY_FIELD_NUMBER: _ClassVar[int]
    SUSPENDED_FIELD_NUMBER: _ClassVar[int]
    TOO_MANY_COUNTERS_FIELD_NUMBER: _ClassVar[int]
    allowed: bool
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    granted: _containers.RepeatedCompositeFieldContainer[Amount]
    retry_delay: _duration_pb2.Duration
    suspended: bool
    too_many_counters: bool
    def __init__(self, allowed: bool = ..., verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ..., granted: _Optional[_Iterable[_Union[Amount, _Mapping]]] = ..., retry_delay: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., suspended: bool = ..., too_many_counters: bool = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("outcome", "reason", "requested", "balance")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[Verdict.Outcome]
        OUTCOME_PASS: _ClassVar[Verdict.Outcome]
        OUTCOME_PARTIAL: _ClassVar[Verdict.Outcome]
        OUTCOME_REFUSE: _ClassVar[Verdict.Outcome]
        OUTCOME_EXCEED: _ClassVar[Verdict.Outcome]
    OUTCOME_UNSPECIFIED: Verdict.Outcome
    OUTCOME_PASS: Verdict.Outcome
    OUTCOME_PARTIAL: Verdict.Outcome
    OUTCOME_REFUSE: Verdict.Outcome
    OUTCOME_EXCEED: Verdict.Outcome
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    outcome: Verdict.Outcome
    reason: str
    requested: int
    balance: _usage_pb2.Balance
    def __init__(self, outcome: _Optional[_Union[Verdict.Outcome, str]] = ..., reason: _Optional[str] = ..., requested: _Optional[int] = ..., balance: _Optional[_Union[_usage_pb2.Balance, _Mapping]] = ...) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ("tenant", "agent", "user", "model", "resources", "page_size", "page_token", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TENANT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    agent: str
    user: str
    model: str
    resources: _containers.RepeatedScalarFieldContainer[str]
    page_size: int
    page_token: str
    labels: _containers.ScalarMap[str, str]
    def __init__(self, tenant: _Optional[str] = ..., agent: _Optional[str] = ..., user: _Optional[str] = ..., model: _Optional[str] = ..., resources: _Optional[_Iterable[str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GetUsageResponse(_message.Message):
    __slots__ = ("balances", "next_page_token")
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    balances: _containers.RepeatedCompositeFieldContainer[_usage_pb2.Balance]
    next_page_token: str
    def __init__(self, balances: _Optional[_Iterable[_Union[_usage_pb2.Balance, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetReservationRequest(_message.Message):
    __slots__ = ("reservation", "tenant", "reserve_request_id")
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    RESERVE_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    reservation: str
    tenant: str
    reserve_request_id: str
    def __init__(self, reservation: _Optional[str] = ..., tenant: _Optional[str] = ..., reserve_request_id: _Optional[str] = ...) -> None: ...

class ListReservationsRequest(_message.Message):
    __slots__ = ("tenant", "states", "agent", "min_age", "page_size", "page_token")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    MIN_AGE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    states: _containers.RepeatedScalarFieldContainer[_usage_pb2.ReservationState]
    agent: str
    min_age: _duration_pb2.Duration
    page_size: int
    page_token: str
    def __init__(self, tenant: _Optional[str] = ..., states: _Optional[_Iterable[_Union[_usage_pb2.ReservationState, str]]] = ..., agent: _Optional[str] = ..., min_age: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListReservationsResponse(_message.Message):
    __slots__ = ("reservations", "next_page_token")
    RESERVATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    reservations: _containers.RepeatedCompositeFieldContainer[_usage_pb2.Reservation]
    next_page_token: str
    def __init__(self, reservations: _Optional[_Iterable[_Union[_usage_pb2.Reservation, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("reserve", "commit", "release", "extend", "record", "check", "amend")
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    AMEND_FIELD_NUMBER: _ClassVar[int]
    reserve: ReserveRequest
    commit: CommitRequest
    release: ReleaseRequest
    extend: ExtendRequest
    record: RecordRequest
    check: CheckRequest
    amend: AmendRequest
    def __init__(self, reserve: _Optional[_Union[ReserveRequest, _Mapping]] = ..., commit: _Optional[_Union[CommitRequest, _Mapping]] = ..., release: _Optional[_Union[ReleaseRequest, _Mapping]] = ..., extend: _Optional[_Union[ExtendRequest, _Mapping]] = ..., record: _Optional[_Union[RecordRequest, _Mapping]] = ..., check: _Optional[_Union[CheckRequest, _Mapping]] = ..., amend: _Optional[_Union[AmendRequest, _Mapping]] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("operations",)
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    def __init__(self, operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ...) -> None: ...

class OperationResult(_message.Message):
    __slots__ = ("reserve", "commit", "release", "extend", "record", "check", "amend", "error")
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    AMEND_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    reserve: ReserveResponse
    commit: CommitResponse
    release: ReleaseResponse
    extend: ExtendResponse
    record: RecordResponse
    check: CheckResponse
    amend: AmendResponse
    error: _status_pb2.Status
    def __init__(self, reserve: _Optional[_Union[ReserveResponse, _Mapping]] = ..., commit: _Optional[_Union[CommitResponse, _Mapping]] = ..., release: _Optional[_Union[ReleaseResponse, _Mapping]] = ..., extend: _Optional[_Union[ExtendResponse, _Mapping]] = ..., record: _Optional[_Union[RecordResponse, _Mapping]] = ..., check: _Optional[_Union[CheckResponse, _Mapping]] = ..., amend: _Optional[_Union[AmendResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class BatchResponse(_message.Message):
    __slots__ = ("results", "abridged")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    ABRIDGED_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[OperationResult]
    abridged: bool
    def __init__(self, results: _Optional[_Iterable[_Union[OperationResult, _Mapping]]] = ..., abridged: bool = ...) -> None: ...

class WatchUsageRequest(_message.Message):
    __slots__ = ("tenant", "agent", "resources", "kinds", "min_percent", "snapshot", "cursor", "heartbeat_interval")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    MIN_PERCENT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    agent: str
    resources: _containers.RepeatedScalarFieldContainer[str]
    kinds: _containers.RepeatedScalarFieldContainer[_event_pb2.EventKind]
    min_percent: int
    snapshot: bool
    cursor: str
    heartbeat_interval: _duration_pb2.Duration
    def __init__(self, tenant: _Optional[str] = ..., agent: _Optional[str] = ..., resources: _Optional[_Iterable[str]] = ..., kinds: _Optional[_Iterable[_Union[_event_pb2.EventKind, str]]] = ..., min_percent: _Optional[int] = ..., snapshot: bool = ..., cursor: _Optional[str] = ..., heartbeat_interval: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchUsageResponse(_message.Message):
    __slots__ = ("event", "snapshot", "heartbeat", "cursor")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    event: _event_pb2.Event
    snapshot: Snapshot
    heartbeat: Heartbeat
    cursor: str
    def __init__(self, event: _Optional[_Union[_event_pb2.Event, _Mapping]] = ..., snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., cursor: _Optional[str] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("balances", "last")
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    balances: _containers.RepeatedCompositeFieldContainer[_usage_pb2.Balance]
    last: bool
    def __init__(self, balances: _Optional[_Iterable[_Union[_usage_pb2.Balance, _Mapping]]] = ..., last: bool = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
