-- Which transaction changed a counter before its last upload did: none came in between if it is the one that the upload saw.
alter table server_certificate_count add column previous bigint;
alter table ca_certificate_count add column previous bigint;
