//! What a server is told of who asks: it shows this to its administrators.

use meshwork_engine::settings::QuerySettings;

/// What sessions are called that serve no query.
pub const PRODUCT: &str = "meshwork";

/// Returns the name of a query and its user, in characters that end neither a string nor a comment anywhere.
pub fn asker(query: &QuerySettings) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " -_.@+:/".contains(c);
    let name = format!("{PRODUCT}/{}/{}", query.query_id, query.user);
    name.chars().map(|c| if plain(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_what_it_stands_in() {
        let mut query = QuerySettings::default();
        query.query_id = "20260102_1".to_owned();
        query.user = "o'ne\\ */ \0 zoë".to_owned();
        assert_eq!(asker(&query), "meshwork/20260102_1/o?ne? ?/ ? zo?");
    }
}
