//! The scalar functions behind `+ - *` and unary minus: arrow's checked kernels under a name.
//!
//! They must give the type, the nullability and the column name of the plain operator. The kernels check integers; of
//! decimals they check the 128 bits, which hold more than 38 digits, so the digits are counted here.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Datum};
use datafusion::arrow::compute::kernels::numeric::{add, mul, sub};
use datafusion::arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Field, FieldRef,
};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::interval_arithmetic::{Interval, apply_operator};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr_common::datum::apply;

use crate::Error;

/// What a checked function computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Add,
    Subtract,
    Multiply,
    Negate,
}

/// Returns the function of each operation, in the order of [`Operation`].
pub(super) fn checked_functions() -> [Arc<ScalarUDF>; 4] {
    static FUNCTIONS: LazyLock<[Arc<ScalarUDF>; 4]> = LazyLock::new(|| {
        [Operation::Add, Operation::Subtract, Operation::Multiply, Operation::Negate]
            .map(|operation| Arc::new(ScalarUDF::new_from_impl(CheckedArithmetic::new(operation))))
    });
    FUNCTIONS.each_ref().map(Arc::clone)
}

/// Returns the call that checks `operation` over `operands`.
pub(super) fn checked(operation: Operation, operands: Vec<Expr>) -> Expr {
    let [add, subtract, multiply, negate] = checked_functions();
    let function = match operation {
        Operation::Add => add,
        Operation::Subtract => subtract,
        Operation::Multiply => multiply,
        Operation::Negate => negate,
    };
    Expr::ScalarFunction(ScalarFunction::new_udf(function, operands))
}

/// Returns `call` as the plain operator that it checks, or `None` if it is not a call of a checked function.
/// Operands are left as they are.
pub fn plain_operator(call: &ScalarFunction) -> Option<Expr> {
    let function = call.func.inner().downcast_ref::<CheckedArithmetic>()?;
    match (function.operation.operator(), call.args.as_slice()) {
        (Some(operator), [left, right]) => Some(Expr::BinaryExpr(BinaryExpr::new(
            Box::new(left.clone()),
            operator,
            Box::new(right.clone()),
        ))),
        (None, [operand]) => Some(Expr::Negative(Box::new(operand.clone()))),
        _ => None,
    }
}

impl Operation {
    /// Returns the operation of an operator that may overflow.
    pub(super) fn of(operator: Operator) -> Option<Self> {
        // No other operator leaves the range of its type silently.
        match operator {
            Operator::Plus => Some(Self::Add),
            Operator::Minus => Some(Self::Subtract),
            Operator::Multiply => Some(Self::Multiply),
            _ => None,
        }
    }

    /// Returns the binary operator; unary minus has none.
    fn operator(self) -> Option<Operator> {
        match self {
            Self::Add => Some(Operator::Plus),
            Self::Subtract => Some(Operator::Minus),
            Self::Multiply => Some(Operator::Multiply),
            Self::Negate => None,
        }
    }

    fn function_name(self) -> &'static str {
        match self {
            Self::Add => "checked_add",
            Self::Subtract => "checked_subtract",
            Self::Multiply => "checked_multiply",
            Self::Negate => "checked_negate",
        }
    }

    /// What the user did.
    fn noun(self) -> &'static str {
        match self {
            Self::Add => "addition",
            Self::Subtract => "subtraction",
            Self::Multiply => "multiplication",
            Self::Negate => "negation",
        }
    }

    fn kernel(self) -> fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Add => add,
            // A negation is a subtraction from zero.
            Self::Subtract | Self::Negate => sub,
            Self::Multiply => mul,
        }
    }

    /// Returns the types that operands are cast to.
    fn operand_types(self, given: &[DataType]) -> Result<Vec<DataType>> {
        let types = match (self.operator(), given) {
            (Some(operator), [left, right]) => {
                let (left, right) =
                    BinaryTypeCoercer::new(left, &operator, right).get_input_types()?;
                vec![left, right]
            }
            (None, [operand]) if operand.is_signed_integer() => vec![operand.clone()],
            _ => Vec::new(),
        };
        let is_known = match types.as_slice() {
            [first, rest @ ..] if first.is_integer() => rest.iter().all(|t| t == first),
            [left, right] => left.is_decimal() && right.is_decimal(),
            _ => false,
        };
        match is_known {
            true => Ok(types),
            false => {
                let name = self.function_name();
                plan_err!("function \"{name}\" takes integers or decimals, not {given:?}")
            }
        }
    }

    fn result_type(self, given: &[DataType]) -> Result<DataType> {
        let mut types = self.operand_types(given)?;
        match (self.operator(), types.as_slice()) {
            (Some(operator), [left, right]) => {
                BinaryTypeCoercer::new(left, &operator, right).get_result_type()
            }
            _ => Ok(types.swap_remove(0)),
        }
    }
}

/// Fails if a value has more digits than its type.
fn check_digits(result: &ColumnarValue) -> Result<(), ArrowError> {
    let array = result.to_array(1).map_err(|e| ArrowError::ExternalError(Box::new(e)))?;
    let digits = match array.data_type() {
        DataType::Decimal32(digits, _) => {
            array.as_primitive::<Decimal32Type>().validate_decimal_precision(*digits)
        }
        DataType::Decimal64(digits, _) => {
            array.as_primitive::<Decimal64Type>().validate_decimal_precision(*digits)
        }
        DataType::Decimal128(digits, _) => {
            array.as_primitive::<Decimal128Type>().validate_decimal_precision(*digits)
        }
        DataType::Decimal256(digits, _) => {
            array.as_primitive::<Decimal256Type>().validate_decimal_precision(*digits)
        }
        // Integers were checked as they were computed.
        _ => Ok(()),
    };
    digits.map_err(|too_many| ArrowError::ArithmeticOverflow(too_many.to_string()))
}

/// One operation on integers or decimals that fails rather than gives another number.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedArithmetic {
    operation: Operation,
    signature: Signature,
}

impl CheckedArithmetic {
    fn new(operation: Operation) -> Self {
        Self { operation, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for CheckedArithmetic {
    fn name(&self) -> &str {
        self.operation.function_name()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match (self.operation.operator(), args) {
            (Some(operator), [left, right]) => {
                Ok(format!("{} {operator} {}", left.schema_name(), right.schema_name()))
            }
            (None, [operand]) => Ok(format!("(- {})", operand.schema_name())),
            _ => internal_err!("function \"{}\" got {} arguments", self.name(), args.len()),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.operation.operand_types(arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.operation.result_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<_> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let data_type = args.return_field.data_type();
        let result = match args.args.as_slice() {
            [left, right] => apply(left, right, self.operation.kernel()),
            [operand] => {
                let zero = ColumnarValue::Scalar(ScalarValue::new_zero(data_type)?);
                apply(&zero, operand, self.operation.kernel())
            }
            _ => internal_err!("function \"{}\" got {} arguments", self.name(), args.args.len()),
        };
        let result = result.and_then(|result| {
            check_digits(&result)?;
            Ok(result)
        });
        result.map_err(|error| overflow_error(error, self.operation, data_type))
    }

    fn evaluate_bounds(&self, inputs: &[&Interval]) -> Result<Interval> {
        match (self.operation.operator(), inputs) {
            (Some(operator), [left, right]) => apply_operator(&operator, left, right),
            (None, [operand]) => operand.arithmetic_negate(),
            _ => internal_err!("function \"{}\" got {} arguments", self.name(), inputs.len()),
        }
    }

    /// An operation that cannot wrap is monotonic, unlike DataFusion's own.
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        let orders: Vec<_> = inputs.iter().map(|input| input.sort_properties).collect();
        Ok(match (self.operation, orders.as_slice()) {
            (Operation::Add, [left, right]) => left.add(right),
            (Operation::Subtract, [left, right]) => left.sub(right),
            (Operation::Negate, [operand]) => -*operand,
            // The sign of a factor decides; nobody sorts by a product often enough to look at it.
            _ if orders.iter().all(|order| *order == SortProperties::Singleton) => {
                SortProperties::Singleton
            }
            _ => SortProperties::Unordered,
        })
    }
}

/// Says what overflowed, without the values: they may be masked for this user.
fn overflow_error(
    error: DataFusionError,
    operation: Operation,
    data_type: &DataType,
) -> DataFusionError {
    match error {
        DataFusionError::ArrowError(cause, _)
            if matches!(*cause, ArrowError::ArithmeticOverflow(_)) =>
        {
            numeric_overflow(operation.noun(), data_type).into()
        }
        other => other,
    }
}

/// Returns the error of an `operation` whose result does not fit the type.
pub(super) fn numeric_overflow(operation: &str, data_type: &DataType) -> Error {
    let name = sql_name(data_type);
    let hint = match data_type {
        decimal if decimal.is_decimal() => {
            "Cast the operands to a DECIMAL with fewer digits behind the point, or to DOUBLE."
        }
        _ => "Cast the operands to a wider type, such as DECIMAL(38, 0).",
    };
    Error::user("NUMERIC_OVERFLOW", format!("{operation} overflowed type {name}")).with_hint(hint)
}

/// Returns the type as users write it.
fn sql_name(data_type: &DataType) -> String {
    // The types that a checked operation can have; others are named as DataFusion names them.
    match data_type {
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INTEGER".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INTEGER UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        other => other.to_string(),
    }
}
