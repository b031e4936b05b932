//! Numbers with an exponent are doubles, as the SQL standard says: `1e3 / 3` is 333.33…, not a decimal of one
//! digit.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Value, ValueWithSpan, visit_expressions_mut,
};

/// Makes doubles of the numbers that are written with an exponent.
pub(super) fn type_exponents(statement: &mut DataFusionStatement) {
    let DataFusionStatement::Statement(statement) = statement else { return };
    let walked = visit_expressions_mut(statement.as_mut(), |expr| {
        if let Expr::Value(ValueWithSpan { value: Value::Number(number, _), span }) = expr
            && number.contains(['e', 'E'])
        {
            let text = Value::SingleQuotedString(number.clone());
            *expr = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(Expr::Value(ValueWithSpan { value: text, span: *span })),
                data_type: DataType::DoublePrecision,
                array: false,
                format: None,
            };
        }
        ControlFlow::<()>::Continue(())
    });
    debug_assert!(walked.is_continue(), "nothing breaks this walk off");
}
