//! One listing of an API: where its rows are, how its pages follow each other, its columns, and what a filter
//! becomes.

use std::collections::{BTreeMap, BTreeSet};

use meshwork_engine::Result;

use super::super::columns::{Column, ColumnType};
use super::super::json_path::JsonPath;
use super::super::manifest::{
    ColumnPart, InStyle, ListPart, Method, OnMax, Op, PaginateKind, PaginatePart, PushdownPart,
    SchemaMode, Semantics, StopKind, TablePart, TimeFormat,
};
use super::{Values, wrong};

/// Pages of one listing unless the manifest says otherwise.
const MAX_PAGES: u64 = 10_000;

#[derive(Debug)]
pub(in crate::rest) struct Table {
    pub(in crate::rest) description: Option<String>,
    pub(in crate::rest) rows_estimated: Option<u64>,
    /// May hold `{{filter.x}}`.
    pub(in crate::rest) path: String,
    pub(in crate::rest) rows: JsonPath,
    pub(in crate::rest) params: Vec<(String, String)>,
    pub(in crate::rest) headers: Vec<(String, String)>,
    pub(in crate::rest) paging: Paging,
    pub(in crate::rest) page_size: Option<PageSize>,
    pub(in crate::rest) total: Option<JsonPath>,
    pub(in crate::rest) max_pages: u64,
    pub(in crate::rest) columns: Vec<Column>,
    pub(in crate::rest) rules: Vec<Rule>,
    pub(in crate::rest) pushes_limit: bool,
}

/// How the next page is asked for.
#[derive(Debug)]
pub(in crate::rest) enum Paging {
    None,
    Cursor { next: JsonPath, param: String },
    NextUrl { next: JsonPath },
    LinkHeader,
    Offset { param: String, first: u64, stop: StopKind },
    Page { param: String, first: u64, stop: StopKind },
}

#[derive(Debug)]
pub(in crate::rest) struct PageSize {
    pub(in crate::rest) param: String,
    pub(in crate::rest) max: u64,
}

/// What a filter on a column becomes.
#[derive(Debug)]
pub(in crate::rest) struct Rule {
    pub(in crate::rest) column: usize,
    /// The place of each operation that the source knows.
    pub(in crate::rest) targets: BTreeMap<Op, Target>,
    pub(in crate::rest) in_style: InStyle,
    pub(in crate::rest) format: TimeFormat,
    pub(in crate::rest) exact: bool,
    pub(in crate::rest) required: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::rest) enum Target {
    Query(String),
    Path(String),
}

impl Table {
    pub(super) fn new(part: TablePart, values: &Values) -> Result<Self> {
        let TablePart { description, rows_estimated, list, paginate, pushdown, schema } = part;
        let ListPart { method: Method::Get, path, rows, params, headers } = list;
        let SchemaMode::Declared = schema.mode;
        let columns = columns(schema.columns)?;
        let path = values.filled_config("list.path", &path)?;
        if !path.starts_with('/') {
            return Err(wrong("list.path", "does not begin with /"));
        }
        let filled = |part: &str, pairs: BTreeMap<String, String>| {
            let pair = |(key, value): (String, String)| Ok((key, values.filled(part, &value)?));
            pairs.into_iter().map(pair).collect::<Result<Vec<_>>>()
        };
        let (pushes_limit, rules) = rules(pushdown, &columns)?;
        check_path_params(&path, &rules)?;
        let total = paginate.total.as_deref().map(|text| path_to_one("paginate.total", text));
        let max_pages = paginate.max_pages.unwrap_or(MAX_PAGES).max(1);
        let page_size = paginate
            .page_size
            .as_ref()
            .map(|part| PageSize { param: part.query.clone(), max: part.max.max(1) });
        // The one action that exists; a short answer is no choice.
        let (Some(OnMax::Error) | None) = paginate.on_max;
        Ok(Self {
            description,
            rows_estimated,
            path,
            rows: rows.parse().map_err(|e: String| wrong("list.rows", &e))?,
            params: filled("list.params", params)?,
            headers: filled("list.headers", headers)?,
            total: total.transpose()?,
            paging: paging(paginate)?,
            page_size,
            max_pages,
            columns,
            rules,
            pushes_limit,
        })
    }
}

fn paging(part: PaginatePart) -> Result<Paging> {
    let PaginatePart { kind, next, send, first, stop, page_size, .. } = part;
    let next = |wanted| match (next.as_deref(), wanted) {
        (Some(text), true) => path_to_one("paginate.next", text).map(Some),
        (None, false) => Ok(None),
        (Some(_), false) => Err(wrong("paginate.next", "does not belong to this type")),
        (None, true) => Err(wrong("paginate.next", "is missing")),
    };
    let send = |wanted| match (&send, wanted) {
        (Some(send), true) => Ok(send.query.clone()),
        (None, false) => Ok(String::new()),
        (Some(_), false) => Err(wrong("paginate.send", "does not belong to this type")),
        (None, true) => Err(wrong("paginate.send", "is missing")),
    };
    let counts = matches!(kind, PaginateKind::Offset | PaginateKind::Page);
    if !counts && first.is_some() {
        return Err(wrong("paginate.first", "does not belong to this type"));
    }
    if stop.is_some_and(|stop| (stop == StopKind::Missing) == counts) {
        return Err(wrong("paginate.stop", "does not belong to this type"));
    }
    if stop == Some(StopKind::Short) && page_size.is_none() {
        return Err(wrong("paginate.stop", "is short, which needs a page_size"));
    }
    let stop = stop.unwrap_or(StopKind::Empty);
    let missing = || wrong("paginate.next", "is missing");
    let (next, param) = match kind {
        PaginateKind::None | PaginateKind::LinkHeader => (next(false)?, send(false)?),
        PaginateKind::Cursor => (next(true)?, send(true)?),
        PaginateKind::NextUrl => (next(true)?, send(false)?),
        PaginateKind::Offset | PaginateKind::Page => (next(false)?, send(true)?),
    };
    Ok(match kind {
        PaginateKind::None => Paging::None,
        PaginateKind::LinkHeader => Paging::LinkHeader,
        PaginateKind::Cursor => Paging::Cursor { next: next.ok_or_else(missing)?, param },
        PaginateKind::NextUrl => Paging::NextUrl { next: next.ok_or_else(missing)? },
        PaginateKind::Offset => Paging::Offset { param, first: first.unwrap_or(0), stop },
        PaginateKind::Page => Paging::Page { param, first: first.unwrap_or(1), stop },
    })
}

fn columns(declared: serde_yaml_ng::Mapping) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    for (name, value) in declared {
        let name = name.as_str().map(str::to_owned).ok_or_else(|| {
            wrong("schema.columns", "has a name that is no text; put it in quotes")
        })?;
        let part = format!("schema.columns.{name}");
        let (declared, path) = match value {
            serde_yaml_ng::Value::String(declared) => (declared, None),
            other => {
                let column: ColumnPart = serde_yaml_ng::from_value(other)
                    .map_err(|e| wrong(&part, &format!("cannot be used: {e}")))?;
                (column.data_type, column.path)
            }
        };
        let (column_type, nullable) = ColumnType::parse(&declared).ok_or_else(|| {
            wrong(&part, &format!("has type \"{declared}\", which does not exist")).with_hint(
                "Types: utf8, int32, int64, float64, bool, decimal(p,s), date, timestamp_us, \
                 timestamp_us_utc, json; ! behind one means not null.",
            )
        })?;
        let path = match path {
            Some(text) => path_to_one(&part, &text)?,
            None => JsonPath::field(&name),
        };
        columns.push(Column { name, column_type, nullable, declared, path });
    }
    match columns.is_empty() {
        true => Err(wrong("schema.columns", "is empty")),
        false => Ok(columns),
    }
}

fn path_to_one(part: &str, text: &str) -> Result<JsonPath> {
    let path: JsonPath = text.parse().map_err(|e: String| wrong(part, &e))?;
    match path.is_many() {
        true => Err(wrong(part, "is a path to many values")),
        false => Ok(path),
    }
}

fn rules(parts: Vec<PushdownPart>, columns: &[Column]) -> Result<(bool, Vec<Rule>)> {
    let mut pushes_limit = false;
    let mut rules = Vec::new();
    for part in parts {
        match (&part.column, part.limit) {
            (None, Some(limit)) => pushes_limit = limit,
            (Some(name), None) => {
                let column = columns.iter().position(|column| column.name == *name);
                let column = column.ok_or_else(|| {
                    wrong("pushdown", &format!("names column \"{name}\", which is not declared"))
                })?;
                rules.push(rule(part, column)?);
            }
            _ => return Err(wrong("pushdown", "has an entry that is neither a column nor limit")),
        }
    }
    Ok((pushes_limit, rules))
}

fn rule(part: PushdownPart, column: usize) -> Result<Rule> {
    let PushdownPart { ops, param, mut params, path_param, in_style, format, semantics, .. } = part;
    let name = part.column.unwrap_or_default();
    let what = format!("pushdown of column \"{name}\"");
    if let Some(param) = &path_param
        && (ops != [Op::Eq] || !part.required || !params.is_empty())
    {
        let need = format!("has path_param \"{param}\", which needs ops: [eq] and required: true");
        return Err(wrong(&what, &need));
    }
    let mut targets = BTreeMap::new();
    for op in ops {
        let target = match (&path_param, params.remove(&op), &param) {
            (Some(name), None, None) => Target::Path(name.clone()),
            (None, Some(name), None) => Target::Query(name),
            (None, None, Some(name)) => Target::Query(name.clone()),
            _ => return Err(wrong(&what, "needs exactly one parameter for each of its ops")),
        };
        targets.insert(op, target);
    }
    if targets.is_empty() || !params.is_empty() {
        return Err(wrong(&what, "has ops and params that do not go together"));
    }
    let ranges: Vec<_> = targets.iter().filter(|(op, _)| !matches!(op, Op::Eq | Op::In)).collect();
    let distinct: BTreeSet<_> = ranges.iter().map(|(_, target)| target).collect();
    if distinct.len() < ranges.len() || targets.get(&Op::Eq).is_some_and(|t| distinct.contains(&t))
    {
        return Err(wrong(&what, "uses one parameter for several comparisons"));
    }
    Ok(Rule {
        column,
        targets,
        in_style: in_style.unwrap_or(InStyle::Comma),
        format: format.unwrap_or(TimeFormat::Rfc3339),
        exact: semantics == Some(Semantics::Exact),
        required: part.required,
    })
}

fn check_path_params(path: &str, rules: &[Rule]) -> Result<()> {
    let targets = rules.iter().flat_map(|rule| rule.targets.values());
    let params: BTreeSet<&str> = targets
        .filter_map(|target| match target {
            Target::Path(name) => Some(name.as_str()),
            Target::Query(_) => None,
        })
        .collect();
    let used: BTreeSet<&str> = path
        .split("{{filter.")
        .skip(1)
        .filter_map(|rest| rest.split_once("}}").map(|(name, _)| name))
        .collect();
    match params.symmetric_difference(&used).next() {
        None => Ok(()),
        Some(name) => {
            let what = format!("and pushdown do not agree on path_param \"{name}\"");
            Err(wrong("list.path", &what))
        }
    }
}
