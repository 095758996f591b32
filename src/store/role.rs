//! The two database roles: the role that serves, and the role that owns the tables. The role that serves can add rows to the audit
//! trail. It cannot change or remove rows.

use deadpool_postgres::Transaction;

use super::migrate::{MigrateError, Stopped};
use super::{Error, Statement, Store};

impl Store {
    /// Whether the tables belong to another role than the one that serves, so that audit events can be purged.
    pub fn has_owner(&self) -> bool {
        self.owner.is_some()
    }

    /// Whether the role that serves can change rows of the audit trail, or can give itself that privilege because it owns the
    /// tables.
    pub async fn can_change_audit_trail(&self) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::can_change_audit_trail",
            sql: "-- store::can_change_audit_trail
                  select bool_or(pg_has_role(relowner, 'usage') or has_table_privilege(oid, 'update, delete, truncate')) from pg_class
                  where oid in ('event'::regclass, 'audit_event'::regclass, 'audit_seal'::regclass)",
        };
        Ok(self.read(STATEMENT, &[]).await?.first().is_none_or(|row| row.get(0)))
    }

    /// The name of the role that serves.
    pub(super) async fn serving_role(&self) -> Result<String, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::serving_role",
            sql: "-- store::serving_role\nselect current_user::text",
        };
        let rows = self.read(STATEMENT, &[]).await?;
        rows.first().map(|row| row.get(0)).ok_or(Error::Row("current_user"))
    }
}

/// The transaction's role owns the tables. Gives the role that serves the privileges that it needs, and no others. If both are the
/// same role, the role only loses the privileges to change rows of the audit trail.
pub(super) async fn grant(transaction: &Transaction<'_>, serving: &str) -> Result<(), Stopped> {
    // A table that another role owns is left alone: an operator may have migrated it with another role.
    const MISSING: &str = "-- store::grant
        select format(case when is_wanted then 'grant %s on %s to %I' else 'revoke %s on %s from %I' end, privilege, relation, $1::text)
        from (
          select oid::regclass as relation, privilege, case
            when relname in ('audit_event', 'audit_seal', 'event') then privilege in ('select', 'insert')
            when relname = 'schema_migration' then privilege = 'select'
            else privilege in ('select', 'insert', 'update', 'delete') end as is_wanted
          from pg_class cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate']) as privilege
          where relnamespace = current_schema()::text::regnamespace and relkind = 'r' and pg_has_role(relowner, 'usage')
            and (current_user <> $1::text or relname in ('audit_event', 'audit_seal', 'event'))
        ) as wanted
        where is_wanted <> has_table_privilege($1::text, relation, privilege)
        union all
        select format('grant usage on schema %I to %I', current_schema(), $1::text)
        where not has_schema_privilege($1::text, current_schema(), 'usage')
        union all
        select format('revoke create on schema %I from %I', current_schema(), $1::text)
        where current_user <> $1::text and has_schema_privilege($1::text, current_schema(), 'create')";
    for row in transaction.query(MISSING, &[&serving]).await? {
        transaction.batch_execute(row.get(0)).await?;
    }
    Ok(())
}

/// Refuses an owner that is the role that serves, or that does not own the tables. A new database has no tables yet.
pub(super) async fn check_owner(transaction: &Transaction<'_>, serving: &str) -> Result<(), Stopped> {
    const OWNER: &str = "-- store::check_owner
        select current_user::text, coalesce(relowner::regrole::text, ''), coalesce(pg_has_role(relowner, 'usage'), true)
        from (select to_regclass('event') as oid) as event left join pg_class using (oid)";
    let row = transaction.query_one(OWNER, &[]).await?;
    let (role, owner, owns): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
    if role == serving {
        return Err(MigrateError::SameRole(role).into());
    }
    match owns {
        true => Ok(()),
        false => Err(MigrateError::NotTheOwner { role, owner }.into()),
    }
}
