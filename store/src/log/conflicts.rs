//! Conflicts: what commits that came first have done to one that is to follow them.

use crate::error::{Error, Result};
use crate::log::commit::Transaction;
use crate::log::deltas::Deltas;
use crate::log::record::{ReadScope, TableChange};
use crate::log::state::{State, check_orders, too_old};
use crate::table::{TableDef, TableId};

/// Says what a commit that came first has done to this one.
pub(crate) fn validate(state: &State, transaction: &Transaction) -> Result<()> {
    for (id, scope) in &transaction.read.tables {
        let Some(table) = state.tables.get(id) else {
            return conflict(format!("table {id} was dropped"));
        };
        match scope {
            ReadScope::All if table.changed_lsn > transaction.read.lsn => {
                let name = table.def.full_name();
                return conflict(format!("table \"{name}\" has changed since it was read"));
            }
            ReadScope::All | ReadScope::Any => {}
        }
    }
    for namespace in &transaction.define.namespaces {
        if state.namespaces.contains(namespace) {
            return Err(Error::NamespaceExists { namespace: namespace.clone() });
        }
    }
    for def in &transaction.define.tables {
        let comes = transaction.define.namespaces.contains(&def.namespace);
        if !comes && !state.namespaces.contains(&def.namespace) {
            return Err(Error::NamespaceNotFound { namespace: def.namespace.clone() });
        }
        if state.table(&def.namespace, &def.name).is_some() {
            return Err(Error::TableExists { table: def.full_name() });
        }
    }
    for def in &transaction.define.altered {
        validate_alteration(state, def)?;
    }
    for clone in &transaction.define.clones {
        if let Err(reason) = state.deltas_of(clone) {
            return conflict(reason);
        }
    }
    for id in &transaction.drop.tables {
        if !state.tables.contains_key(id) {
            return conflict(format!("table {id} was dropped by another writer"));
        }
    }
    for namespace in &transaction.drop.namespaces {
        validate_namespace_drop(state, transaction, namespace)?;
    }
    for change in &transaction.tables {
        let mut defined = transaction.define.tables.iter().chain(&transaction.define.altered);
        let new = defined.find(|def| def.id == change.id);
        let known = || state.tables.get(&change.id).map(|table| table.def_for(change));
        let Some(def) = new.or_else(known) else {
            return conflict(format!("table {} was dropped", change.id));
        };
        if def.schema != change.schema {
            return conflict(format!("table \"{}\" has a new definition", def.full_name()));
        }
        check_orders(def, transaction.operation, change)
            .map_err(|evidence| Error::corrupt(def.full_name(), evidence))?;
        validate_deltas(state, transaction, change)?;
    }
    match transaction.low_water {
        Some(asked) if asked > state.version => {
            Err(Error::VersionNotFound { asked, newest: state.version })
        }
        Some(asked) if asked < state.low_water => {
            Err(Error::VersionExpired { asked, oldest: state.low_water })
        }
        Some(_) | None => Ok(()),
    }
}

/// A definition follows the one that is there when it comes, and no other one.
fn validate_alteration(state: &State, def: &TableDef) -> Result<()> {
    let Some(table) = state.tables.get(&def.id) else {
        return conflict(format!("table {} was dropped", def.id));
    };
    if def.schema != table.def.schema + 1 {
        return conflict(format!("table \"{}\" has a new definition", table.def.full_name()));
    }
    match state.table(&def.namespace, &def.name) {
        Some(other) if other.def.id != def.id => Err(Error::TableExists { table: def.full_name() }),
        Some(_) | None => Ok(()),
    }
}

/// A merge whose inputs are gone is lost, and so is a drop of what is gone: what it was about has been done. Files that were
/// written too long ago may be gone themselves.
fn validate_deltas(state: &State, transaction: &Transaction, change: &TableChange) -> Result<()> {
    let (none, known) = (Deltas::default(), state.tables.get(&change.id));
    let deltas = known.map_or(&none, |table| &table.deltas);
    if let Some(file) = too_old(state.named_since_ms, transaction.operation, change, deltas) {
        return conflict(format!(
            "file \"{}\" was written so long ago that a vacuum may have deleted it; or the clock of its writer is behind",
            file.path
        ));
    }
    let Some(table) = known else { return Ok(()) };
    let name = || table.def.full_name();
    if let Some(merge) = &change.merge {
        if table.deltas.get(merge.into).is_some() {
            return conflict(format!("delta {} of table \"{}\" is there", merge.into, name()));
        }
        if let Err(reason) = table.deltas.tile_merge(merge) {
            return conflict(format!("table \"{}\": {reason}", name()));
        }
    }
    if change.drop.is_empty() {
        return Ok(());
    }
    let mut left = table.deltas.clone();
    for id in &change.drop {
        if let Err(reason) = left.remove(*id) {
            return conflict(format!("table \"{}\": {reason}", name()));
        }
    }
    match left.lost(transaction.low_water.unwrap_or(state.low_water).max(state.low_water)) {
        Some(version) => conflict(format!("table \"{}\" needs them for {version}", name())),
        None => Ok(()),
    }
}

fn validate_namespace_drop(
    state: &State,
    transaction: &Transaction,
    namespace: &str,
) -> Result<()> {
    if !state.namespaces.contains(namespace) {
        return Err(Error::NamespaceNotFound { namespace: namespace.to_owned() });
    }
    let stay = |id: &&TableId| !transaction.drop.tables.contains(id);
    let in_it = state.names.iter().filter(|((holder, _), _)| holder == namespace);
    let n_tables = in_it.map(|(_, id)| id).filter(stay).count();
    if n_tables > 0 {
        return Err(Error::NamespaceNotEmpty { namespace: namespace.to_owned(), n_tables });
    }
    Ok(())
}

fn conflict(reason: String) -> Result<()> {
    Err(Error::Conflict { reason })
}
