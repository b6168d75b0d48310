-- One Reserve and one Commit of it: two calls, two transactions.
\set tenant random(1, :tenants)
\set slot :client_id % :slots
\set amount random(1, 1000)
SELECT reserve(:tenant, gen_random_uuid(), :amount, '5 min', :slot) AS reservation \gset
SELECT settle(:reservation, :amount);
