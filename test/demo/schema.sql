-- What the demo publishes: changes of pgbench's own tables by trigger, and payments by a call.

CREATE EXTENSION durable_event;

CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON pgbench_accounts FOR EACH ROW
	EXECUTE FUNCTION durable_event.publish_row('account_revised', 'aid', 'columns=aid,bid,abalance');
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON pgbench_tellers FOR EACH ROW
	EXECUTE FUNCTION durable_event.publish_row('teller_revised', 'tid', 'columns=tid,bid,tbalance');
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON pgbench_branches FOR EACH ROW
	EXECUTE FUNCTION durable_event.publish_row('branch_revised', 'bid', 'columns=bid,bbalance');
CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON pgbench_history FOR EACH ROW
	EXECUTE FUNCTION durable_event.publish_row('transfer_recorded', 'aid');

-- few customers, so that transactions have to wait for each other
CREATE TABLE customer (id integer PRIMARY KEY, version integer NOT NULL DEFAULT 0);
INSERT INTO customer (id) SELECT generate_series(1, 20);

-- counts also what is rolled back
CREATE SEQUENCE rolled_back;
