-- One consumer group for each kind of event, and one that takes all; variable: url

INSERT INTO durable_event.consumer_group (name, event_types, mode, handler_url) VALUES
	('accounts', '{account_revised}', 'batch', :'url'),
	('tellers', '{teller_revised}', 'batch', :'url'),
	('branches', '{branch_revised}', 'batch', :'url'),
	('payments', '{payment_received}', 'single', :'url'),
	('audit', '{account_revised,teller_revised,branch_revised,transfer_recorded,payment_received}',
		'batch', :'url');
