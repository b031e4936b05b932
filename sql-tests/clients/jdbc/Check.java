// The Arrow Flight SQL JDBC driver against a running coordinator: what a BI tool does, checked.
//
//   ./run.sh 127.0.0.1:8815 [user password]
//
// Needs the catalog "tpch" (kind "tpch"); the names can be changed by -Dtable=... and -Dlarge=....

import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

public final class Check {
    private static final int LARGE_ROWS = 1_000_000;
    private static final String TABLE = System.getProperty("table", "tpch.tiny.nation");
    private static final String LARGE =
            System.getProperty("large", "SELECT * FROM tpch.sf1.lineitem LIMIT " + LARGE_ROWS);

    private static int failures = 0;

    private interface Work {
        String run() throws Exception;
    }

    private static void check(String name, Work work) {
        long started = System.nanoTime();
        try {
            String said = work.run();
            System.out.printf("ok   %s (%.2f s) %s%n", name, (System.nanoTime() - started) / 1e9, said);
        } catch (Exception | AssertionError error) {
            failures++;
            System.out.printf("FAIL %s: %s%n", name, error);
        }
    }

    private static void expect(Object found, Object wanted) {
        if (!String.valueOf(found).equals(String.valueOf(wanted))) {
            throw new AssertionError("found " + found + ", wanted " + wanted);
        }
    }

    private static List<String> column(ResultSet rows, String name) throws SQLException {
        List<String> values = new ArrayList<>();
        try (rows) {
            while (rows.next()) {
                values.add(rows.getString(name));
            }
        }
        return values;
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:arrow-flight-sql://" + arguments[0] + "/?useEncryption=false";
        Properties properties = new Properties();
        if (arguments.length == 3) {
            properties.put("user", arguments[1]);
            properties.put("password", arguments[2]);
        }
        String[] name = TABLE.split("\\.");
        try (Connection connection = DriverManager.getConnection(url, properties)) {
            DatabaseMetaData about = connection.getMetaData();
            check("product", () -> about.getDatabaseProductName() + " " + about.getDatabaseProductVersion());
            check("catalogs", () -> {
                List<String> found = column(about.getCatalogs(), "TABLE_CAT");
                expect(found.contains(name[0]), true);
                return found.toString();
            });
            check("schemas", () -> {
                List<String> found = column(about.getSchemas(name[0], null), "TABLE_SCHEM");
                expect(found.contains(name[1]), true);
                return found.size() + " schemas";
            });
            check("schemas of all catalogs", () -> column(about.getSchemas(), "TABLE_SCHEM").size() + " schemas");
            check("tables", () -> {
                List<String> found = column(about.getTables(null, name[1], "%", null), "TABLE_NAME");
                expect(found.contains(name[2]), true);
                return found.size() + " tables";
            });
            check("columns", () -> {
                List<String> found = column(about.getColumns(name[0], name[1], name[2], null), "COLUMN_NAME");
                expect(found.isEmpty(), false);
                return found.toString();
            });
            check("keys", () -> {
                expect(about.getPrimaryKeys(name[0], name[1], name[2]).next(), false);
                expect(about.getImportedKeys(name[0], name[1], name[2]).next(), false);
                expect(about.getExportedKeys(name[0], name[1], name[2]).next(), false);
                return "none";
            });
            check("what the server can do", () -> {
                expect(about.supportsANSI92EntryLevelSQL(), true);
                expect(about.supportsTransactions(), false);
                expect(about.getIdentifierQuoteString(), "\"");
                expect(about.getSQLKeywords().isEmpty(), false);
                expect(about.getNumericFunctions().isEmpty(), false);
                return about.getStringFunctions().split(",").length + " string functions";
            });
            check("statement", () -> {
                try (Statement statement = connection.createStatement();
                        ResultSet rows = statement.executeQuery("SELECT 1 AS one, 'a' AS text")) {
                    expect(rows.next(), true);
                    expect(rows.getInt("one"), 1);
                    expect(rows.getString("text"), "a");
                    expect(rows.next(), false);
                }
                return "";
            });
            check("parameters", () -> {
                String sql = "SELECT count(*) FROM " + TABLE + " WHERE n_nationkey < ? AND n_name <> ?";
                try (PreparedStatement statement = connection.prepareStatement(sql)) {
                    for (int bound : new int[] {5, 10}) {
                        statement.setLong(1, bound);
                        statement.setString(2, "nobody");
                        try (ResultSet rows = statement.executeQuery()) {
                            expect(rows.next(), true);
                            expect(rows.getLong(1), bound);
                        }
                    }
                }
                return "";
            });
            check("session statement", () -> {
                try (Statement statement = connection.createStatement()) {
                    statement.executeUpdate("SET SESSION batch_size = 2048");
                }
                return "";
            });
            check("error", () -> {
                try (Statement statement = connection.createStatement()) {
                    statement.executeQuery("SELECT * FROM tpch.tiny.no_such_table_here");
                    throw new AssertionError("no error");
                } catch (SQLException error) {
                    StringBuilder all = new StringBuilder();
                    for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                        all.append(cause.getMessage()).append(' ');
                    }
                    if (all.indexOf("TABLE_NOT_FOUND") < 0) {
                        throw new AssertionError("another error: " + all);
                    }
                    return all.toString().lines().findFirst().orElse("");
                }
            });
            check("one million rows", () -> {
                int n = 0;
                try (Statement statement = connection.createStatement();
                        ResultSet rows = statement.executeQuery(LARGE)) {
                    while (rows.next()) {
                        rows.getObject(1);
                        n++;
                    }
                }
                expect(n, LARGE_ROWS);
                return "";
            });
        }
        System.out.println(failures == 0 ? "all passed" : failures + " failed");
        System.exit(failures == 0 ? 0 : 1);
    }
}
