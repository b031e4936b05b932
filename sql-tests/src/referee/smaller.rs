//! Smaller queries: each way to take one thing away.
//!
//! Some of them are no valid queries any more, or other ones: whoever asks for them looks whether the failure is still
//! there.

use super::query::{Aggregate, Expr, Join, JoinKind, Nested, Query, Select};

impl Query {
    /// Returns the queries with one thing less, those with the most gone first.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut found = Vec::new();
        let changed = |change: &dyn Fn(&mut Self)| {
            let mut query = self.clone();
            change(&mut query);
            query
        };
        if self.selects.len() > 1 {
            for place in 0..self.selects.len() {
                found.push(changed(&|query| {
                    query.selects.remove(place);
                }));
            }
        }
        if self.is_cut() {
            found.push(self.whole());
            found.push(changed(&|query| query.offset = None));
            found.push(changed(&|query| query.limit = query.limit.map(|_rows| 1)));
        }
        for place in 0..self.order.len() {
            found.push(changed(&|query| {
                query.order.remove(place);
            }));
        }
        for (place, select) in self.selects.iter().enumerate() {
            for smaller in select.smaller() {
                found.push(changed(&|query| query.selects[place] = smaller.clone()));
            }
        }
        if let [select] = self.selects.as_slice() {
            found.extend((0..select.joins.len()).filter_map(|place| self.without_join(place)));
        }
        let n_outputs = self.selects.first().map_or(0, |select| select.outputs.len());
        found.extend((0..n_outputs).filter_map(|place| self.without_outputs(&[place])));
        found.retain(|query| query != self);
        found
    }

    /// Returns the query without a join, and without all that names its table.
    fn without_join(&self, place: usize) -> Option<Self> {
        let select = self.selects.first()?;
        let gone = select.joins.get(place)?.table.alias.clone();
        let names_it = |expr: &Expr| expr.aliases().contains(&gone);
        let outputs: Vec<usize> =
            (0..select.outputs.len()).filter(|output| names_it(&select.outputs[*output])).collect();
        let mut query = self.clone();
        let select = query.selects.first_mut()?;
        select.joins.remove(place);
        for join in &mut select.joins {
            join.on.retain(|on| !names_it(on));
            if join.on.is_empty() {
                join.on.push(Expr::truth());
            }
        }
        select.filters.retain(|filter| !names_it(filter));
        select.group.retain(|key| !names_it(key));
        select.having.retain(|condition| !names_it(condition));
        if outputs.len() == select.outputs.len() {
            // Something must be returned.
            let count = Aggregate {
                function: "count",
                distinct: "",
                argument: None,
                filter: None,
                class: super::values::Class::Int,
            };
            select.outputs = vec![Expr::Aggregate(Box::new(count))];
            query.order.clear();
            return Some(query);
        }
        query.without_outputs(&outputs)
    }

    /// Returns the query without some of its outputs, or `None` if none would be left.
    fn without_outputs(&self, gone: &[usize]) -> Option<Self> {
        let mut query = self.clone();
        for select in &mut query.selects {
            let outputs = std::mem::take(&mut select.outputs);
            let kept = outputs.into_iter().enumerate().filter(|(place, _)| !gone.contains(place));
            select.outputs = kept.map(|(_, output)| output).collect();
            if select.outputs.is_empty() {
                return None;
            }
        }
        query.order.retain(|key| !gone.contains(&key.output));
        for key in &mut query.order {
            key.output -= gone.iter().filter(|place| **place < key.output).count();
        }
        Some(query)
    }
}

impl Select {
    fn smaller(&self) -> Vec<Self> {
        let mut found = Vec::new();
        let changed = |change: &dyn Fn(&mut Self)| {
            let mut select = self.clone();
            change(&mut select);
            select
        };
        found.push(changed(&|select| select.distinct = ""));
        for filters in smaller_list(&self.filters, 0) {
            found.push(changed(&|select| select.filters.clone_from(&filters)));
        }
        for having in smaller_list(&self.having, 0) {
            found.push(changed(&|select| select.having.clone_from(&having)));
        }
        for (place, join) in self.joins.iter().enumerate() {
            for smaller in join.smaller() {
                found.push(changed(&|select| select.joins[place] = smaller.clone()));
            }
        }
        for place in 0..self.group.len() {
            let key = &self.group[place];
            if self.outputs.iter().any(|output| output != key) {
                found.push(changed(&|select| {
                    let key = select.group.remove(place);
                    // The places of outputs stay, as the order names them.
                    for output in select.outputs.iter_mut().filter(|output| **output == key) {
                        *output = Expr::Literal { sql: "1".to_owned(), class: key.class() };
                    }
                }));
            }
        }
        for place in 0..self.outputs.len() {
            for smaller in self.outputs[place].smaller() {
                let is_key = self.group.contains(&self.outputs[place]);
                if !is_key {
                    found.push(changed(&|select| select.outputs[place] = smaller.clone()));
                }
            }
        }
        found
    }
}

impl Join {
    fn smaller(&self) -> Vec<Self> {
        let with = |on: Vec<Expr>| Self { on, ..self.clone() };
        let mut found: Vec<Self> = smaller_list(&self.on, 1).into_iter().map(with).collect();
        if self.kind != JoinKind::Inner {
            found.push(Self { kind: JoinKind::Inner, ..self.clone() });
        }
        if self.kind == JoinKind::Full {
            found.push(Self { kind: JoinKind::Left, ..self.clone() });
            found.push(Self { kind: JoinKind::Right, ..self.clone() });
        }
        found
    }
}

impl Expr {
    /// Returns the expressions of the same class with one thing less.
    fn smaller(&self) -> Vec<Self> {
        match self {
            Self::Column { .. } | Self::Literal { .. } => Vec::new(),
            Self::Call { form, arguments, class } => {
                let mut found: Vec<Self> = arguments
                    .iter()
                    .filter(|argument| argument.class() == *class)
                    .cloned()
                    .collect();
                found.extend(smaller_parts(arguments).into_iter().map(|arguments| Self::Call {
                    form,
                    arguments,
                    class: *class,
                }));
                found
            }
            Self::In { value, operator, list } => {
                let with = |list: Vec<Self>| Self::In { value: value.clone(), operator, list };
                smaller_list(list, 1).into_iter().map(with).collect()
            }
            Self::All(parts) => {
                let mut found = parts.clone();
                found.extend(smaller_list(parts, 1).into_iter().map(Self::All));
                found
            }
            Self::Any(parts) => {
                let mut found = parts.clone();
                found.extend(smaller_list(parts, 1).into_iter().map(Self::Any));
                found
            }
            Self::Aggregate(aggregate) => {
                let with = |aggregate: Aggregate| Self::Aggregate(Box::new(aggregate));
                let Aggregate { argument, filter, .. } = aggregate.as_ref();
                let mut found = Vec::new();
                if !aggregate.distinct.is_empty() {
                    found.push(with(Aggregate { distinct: "", ..aggregate.as_ref().clone() }));
                }
                if let Some(filter) = filter {
                    found.push(with(Aggregate { filter: None, ..aggregate.as_ref().clone() }));
                    found.extend(filter.smaller().into_iter().map(|filter| {
                        with(Aggregate { filter: Some(filter), ..aggregate.as_ref().clone() })
                    }));
                }
                found.extend(argument.iter().flat_map(Self::smaller).map(|argument| {
                    with(Aggregate { argument: Some(argument), ..aggregate.as_ref().clone() })
                }));
                found
            }
            Self::Nested(nested) => {
                let with = |nested: Nested| Self::Nested(Box::new(nested));
                let filters = smaller_list(&nested.filters, 0);
                let filters = filters.into_iter();
                filters.map(|filters| with(Nested { filters, ..nested.as_ref().clone() })).collect()
            }
        }
    }
}

/// Returns the lists with one part gone, down to `n_min`, or with one part smaller.
fn smaller_list(parts: &[Expr], n_min: usize) -> Vec<Vec<Expr>> {
    let mut found = Vec::new();
    if parts.len() > n_min {
        for place in 0..parts.len() {
            let mut parts = parts.to_vec();
            parts.remove(place);
            found.push(parts);
        }
    }
    found.extend(smaller_parts(parts));
    found
}

/// Returns the lists with one part smaller.
fn smaller_parts(parts: &[Expr]) -> Vec<Vec<Expr>> {
    let mut found = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        for smaller in part.smaller() {
            let mut parts = parts.to_vec();
            parts[place] = smaller;
            found.push(parts);
        }
    }
    found
}
