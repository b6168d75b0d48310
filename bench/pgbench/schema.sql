-- Reserve and Commit as stored procedures of PostgreSQL 15: what an application without Tope could do best.
--
-- One resource; each tenant has a DAY and a MONTH limit, both HARD, with windows in UTC. A call is one
-- transaction, READ COMMITTED. Where Tope does more than this (expiry of holds, thresholds, time zones, plans,
-- names, balances in the reply), the procedures have less to do.
--
-- What makes them fast:
--   * both counters of a tenant are in one row, which is the lock as well: one UPDATE waits, checks the limits
--     on what it finds after the wait, and writes
--   * that row may be split: each slot has a share of the limits, so calls in different slots do not wait for
--     each other's commit. When a share is used up, what remains is spread anew (reserve_slow)
--   * a reservation's id is made from the tenant and the request_id, so one index serves both
--   * no column that changes is in an index, and pages keep room: updates are HOT
--   * functions: CALL of a procedure takes some 6 µs more. One statement for both writes (a CTE) is slower than
--     two, and so are SELECT FOR UPDATE before the UPDATE, and a second index for the request_id
--
-- Locks are taken in one order: the reservation, the slots by number, the closed counters.
-- Errors: AF001 over quota, AF002 not found, AF003 request_id used with another payload, AF004 settled with
-- another amount, AF005 repeat the call with slot 0.

-- The limits of a tenant.
CREATE TABLE tenants (
    tenant      int PRIMARY KEY,
    day_limit   bigint NOT NULL CHECK (day_limit >= 0),
    month_limit bigint NOT NULL CHECK (month_limit >= 0)
);

-- The running counters: of the day `day`, and of the month that `day` is in. The allowances of a tenant's slots
-- add up to its limits. A few rows a page, so that the page holds many versions of each before it is pruned.
CREATE TABLE slots (
    tenant          int NOT NULL,
    slot            int NOT NULL,
    day             date NOT NULL,
    day_allowance   bigint NOT NULL,
    day_committed   bigint NOT NULL DEFAULT 0,
    day_reserved    bigint NOT NULL DEFAULT 0,
    month_allowance bigint NOT NULL,
    month_committed bigint NOT NULL DEFAULT 0,
    month_reserved  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, slot)
) WITH (fillfactor = 10);

-- Counters of windows that are over; a late commit still finds its own here.
CREATE TABLE closed_counters (
    tenant       int NOT NULL,
    slot         int NOT NULL,
    period       text NOT NULL CHECK (period IN ('DAY', 'MONTH')),
    window_start date NOT NULL,
    committed    bigint NOT NULL,
    reserved     bigint NOT NULL,
    PRIMARY KEY (tenant, period, window_start, slot)
);

-- Open reservations (committed IS NULL) and settled ones, which stay.
CREATE TABLE reservations (
    id         uuid PRIMARY KEY,
    request_id uuid NOT NULL,
    deadline   timestamptz NOT NULL,
    settled_at timestamptz,
    amount     bigint NOT NULL,
    committed  bigint,
    tenant     int NOT NULL,
    slot       int NOT NULL,
    day        date NOT NULL,
    ttl        interval NOT NULL
) WITH (fillfactor = 60);

-- Makes a tenant, its limits spread over `p_slots` slots.
CREATE FUNCTION create_tenant(p_tenant int, p_day_limit bigint, p_month_limit bigint, p_slots int)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tenants VALUES (p_tenant, p_day_limit, p_month_limit);
    INSERT INTO slots (tenant, slot, day, day_allowance, month_allowance)
    SELECT p_tenant, s, (clock_timestamp() AT TIME ZONE 'UTC')::date,
           p_day_limit / p_slots + CASE WHEN s < p_day_limit % p_slots THEN 1 ELSE 0 END,
           p_month_limit / p_slots + CASE WHEN s < p_month_limit % p_slots THEN 1 ELSE 0 END
    FROM generate_series(0, p_slots - 1) AS s;
END $$;

-- Reserve of a request that is known: it must have the same payload.
CREATE FUNCTION check_replay(p_id uuid, p_tenant int, p_request uuid, p_amount bigint, p_ttl interval)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM reservations
    WHERE id = p_id AND tenant = p_tenant AND request_id = p_request AND amount = p_amount AND ttl = p_ttl;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'request % was used with another payload', p_request USING ERRCODE = 'AF003';
    END IF;
END $$;

-- Reserve in slot 0, when its share does not suffice or a day has begun: under the locks of all slots, closes the
-- windows that are over, decides by the limits of the tenant, and spreads what remains over the slots.
CREATE FUNCTION reserve_slow(p_id uuid, p_tenant int, p_amount bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_day   date;
    v_slots int;
    v_limit tenants;
    v_day_left   bigint;
    v_month_left bigint;
BEGIN
    -- The lock is a statement of its own: the next one sees what was committed while it waited.
    PERFORM FROM slots WHERE tenant = p_tenant ORDER BY slot FOR UPDATE;

    SELECT greatest((clock_timestamp() AT TIME ZONE 'UTC')::date, max(day)), count(*)
    INTO v_day, v_slots FROM slots WHERE tenant = p_tenant;
    IF v_slots = 0 THEN
        RAISE EXCEPTION 'there is no tenant %', p_tenant USING ERRCODE = 'AF002';
    END IF;

    INSERT INTO closed_counters
    SELECT tenant, slot, 'DAY', day, day_committed, day_reserved
    FROM slots WHERE tenant = p_tenant AND day < v_day
    UNION ALL
    SELECT tenant, slot, 'MONTH', date_trunc('month', day)::date, month_committed, month_reserved
    FROM slots WHERE tenant = p_tenant AND day < date_trunc('month', v_day)::date;

    UPDATE slots SET month_committed = 0, month_reserved = 0
    WHERE tenant = p_tenant AND day < date_trunc('month', v_day)::date;
    UPDATE slots SET day = v_day, day_committed = 0, day_reserved = 0
    WHERE tenant = p_tenant AND day < v_day;

    SELECT * INTO STRICT v_limit FROM tenants WHERE tenant = p_tenant;
    SELECT v_limit.day_limit - sum(day_committed + day_reserved) - p_amount,
           v_limit.month_limit - sum(month_committed + month_reserved) - p_amount
    INTO v_day_left, v_month_left FROM slots WHERE tenant = p_tenant;
    IF v_day_left < 0 OR v_month_left < 0 THEN
        RAISE EXCEPTION 'over quota: % too many in the day, % in the month',
            greatest(0, -v_day_left), greatest(0, -v_month_left) USING ERRCODE = 'AF001';
    END IF;

    UPDATE slots SET day_reserved = day_reserved + p_amount, month_reserved = month_reserved + p_amount
    WHERE tenant = p_tenant AND slot = 0;
    UPDATE slots SET
        day_allowance = day_committed + day_reserved + v_day_left / v_slots
            + CASE WHEN slot < v_day_left % v_slots THEN 1 ELSE 0 END,
        month_allowance = month_committed + month_reserved + v_month_left / v_slots
            + CASE WHEN slot < v_month_left % v_slots THEN 1 ELSE 0 END
    WHERE tenant = p_tenant;
    UPDATE reservations SET day = v_day WHERE id = p_id AND day <> v_day;
END $$;

-- Reserve: holds `p_amount` for `p_ttl`, or fails with AF001. The same request again answers the same id and does
-- nothing. `p_slot` is 0, or any number that spreads the callers; AF005 says that this slot does not know the
-- answer and slot 0 does.
CREATE FUNCTION reserve(
    p_tenant int, p_request uuid, p_amount bigint, p_ttl interval, p_slot int, OUT reservation uuid
) LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_day date := (v_now AT TIME ZONE 'UTC')::date;
BEGIN
    IF p_amount < 0 THEN
        RAISE EXCEPTION 'the amount is negative' USING ERRCODE = '22023';
    END IF;
    reservation := md5(int4send(p_tenant) || uuid_send(p_request))::uuid;

    INSERT INTO reservations (id, request_id, deadline, amount, tenant, slot, day, ttl)
    VALUES (reservation, p_request, v_now + p_ttl, p_amount, p_tenant, p_slot, v_day, p_ttl)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        PERFORM check_replay(reservation, p_tenant, p_request, p_amount, p_ttl);
        RETURN;
    END IF;

    -- After a wait for the row, the conditions are checked again on its newest version.
    UPDATE slots SET day_reserved = day_reserved + p_amount, month_reserved = month_reserved + p_amount
    WHERE tenant = p_tenant AND slot = p_slot AND day = v_day
        AND day_committed + day_reserved + p_amount <= day_allowance
        AND month_committed + month_reserved + p_amount <= month_allowance;
    IF FOUND THEN
        RETURN;
    END IF;

    -- This slot may be locked by now, and only the first one may be locked before the others.
    IF p_slot <> 0 THEN
        RAISE EXCEPTION 'slot % does not suffice; repeat with slot 0', p_slot USING ERRCODE = 'AF005';
    END IF;
    PERFORM reserve_slow(reservation, p_tenant, p_amount);
END $$;

-- Commit of a reservation whose day is over.
CREATE FUNCTION settle_closed(p_tenant int, p_slot int, p_day date, p_reserved bigint, p_amount bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_month date := date_trunc('month', p_day)::date;
BEGIN
    -- The day of a slot never goes back, so a month that is not there any more is closed.
    UPDATE slots SET month_reserved = month_reserved - p_reserved, month_committed = month_committed + p_amount
    WHERE tenant = p_tenant AND slot = p_slot AND date_trunc('month', day)::date = v_month;
    IF NOT FOUND THEN
        UPDATE closed_counters SET reserved = reserved - p_reserved, committed = committed + p_amount
        WHERE tenant = p_tenant AND slot = p_slot AND period = 'MONTH' AND window_start = v_month;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the counters of the month % are lost', v_month;
        END IF;
    END IF;
    UPDATE closed_counters SET reserved = reserved - p_reserved, committed = committed + p_amount
    WHERE tenant = p_tenant AND slot = p_slot AND period = 'DAY' AND window_start = p_day;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the counters of the day % are lost', p_day;
    END IF;
END $$;

-- Commit: settles a reservation with what was really used, in the windows in which it was made. The same amount
-- again does nothing; another one fails with AF004.
CREATE FUNCTION settle(p_reservation uuid, p_amount bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_tenant int;
    v_slot   int;
    v_day    date;
    v_reserved  bigint;
    v_committed bigint;
BEGIN
    IF p_amount < 0 THEN
        RAISE EXCEPTION 'the amount is negative' USING ERRCODE = '22023';
    END IF;
    UPDATE reservations SET committed = p_amount, settled_at = clock_timestamp()
    WHERE id = p_reservation AND committed IS NULL
    RETURNING tenant, slot, day, amount INTO v_tenant, v_slot, v_day, v_reserved;
    IF NOT FOUND THEN
        SELECT committed INTO v_committed FROM reservations WHERE id = p_reservation AND committed IS NOT NULL;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no reservation %', p_reservation USING ERRCODE = 'AF002';
        ELSIF v_committed <> p_amount THEN
            RAISE EXCEPTION 'reservation % was settled with %', p_reservation, v_committed USING ERRCODE = 'AF004';
        END IF;
        RETURN;
    END IF;

    UPDATE slots SET
        day_reserved = day_reserved - v_reserved, day_committed = day_committed + p_amount,
        month_reserved = month_reserved - v_reserved, month_committed = month_committed + p_amount
    WHERE tenant = v_tenant AND slot = v_slot AND day = v_day;
    IF NOT FOUND THEN
        PERFORM settle_closed(v_tenant, v_slot, v_day, v_reserved, p_amount);
    END IF;
END $$;

-- The books: a row for each counter that is not the sum over its reservations, and for each tenant whose
-- allowances do not add up to its limits. Empty when all is well.
CREATE VIEW books_at_fault AS
WITH counters AS (
    SELECT tenant, slot, 'DAY' AS period, day AS window_start, day_committed AS committed, day_reserved AS reserved
    FROM slots
    UNION ALL
    SELECT tenant, slot, 'MONTH', date_trunc('month', day)::date, month_committed, month_reserved FROM slots
    UNION ALL
    SELECT tenant, slot, period, window_start, committed, reserved FROM closed_counters
), sums AS (
    SELECT tenant, slot, period,
           CASE period WHEN 'DAY' THEN day ELSE date_trunc('month', day)::date END AS window_start,
           coalesce(sum(r.committed), 0) AS committed,
           coalesce(sum(r.amount) FILTER (WHERE r.committed IS NULL), 0) AS reserved
    FROM reservations AS r, (VALUES ('DAY'), ('MONTH')) AS p (period)
    GROUP BY 1, 2, 3, 4
)
SELECT tenant, slot, period, window_start, c.committed, c.reserved,
       s.committed AS committed_sum, s.reserved AS reserved_sum
FROM counters AS c FULL JOIN sums AS s USING (tenant, slot, period, window_start)
WHERE (c.committed, c.reserved) IS DISTINCT FROM (coalesce(s.committed, 0), coalesce(s.reserved, 0))
UNION ALL
SELECT t.tenant, NULL, 'allowances', NULL, sum(day_allowance), sum(month_allowance), t.day_limit, t.month_limit
FROM tenants AS t LEFT JOIN slots USING (tenant)
GROUP BY t.tenant
HAVING (sum(day_allowance), sum(month_allowance)) IS DISTINCT FROM (t.day_limit::numeric, t.month_limit::numeric);
