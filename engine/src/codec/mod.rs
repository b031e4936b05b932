//! How plans and batches travel: `RemoteScanExec` as JSON of its scan and splits, for which the receiving
//! node finds the connector, `JoinSideExec` as nothing above its input; everything over the channels in [`channel`].
//!
//! Together with the coordinator's `fragment/` and `schedule/` and the worker, this is the only place that
//! may name the distributed runtime.

pub mod channel;

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalExprNode;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::catalog::CatalogRegistry;
use crate::connector::Split;
use crate::join_side::JoinSideExec;
use crate::remote::{RemoteScan, RemoteScanExec, guarded};
use crate::settings::QuerySettings;

/// Encodes nodes of ours; decodes the leaf of row sources against the node's own catalogs.
#[derive(Debug)]
pub struct NodeCodec {
    catalogs: Arc<CatalogRegistry>,
}

impl NodeCodec {
    /// Returns the codec of a node.
    pub fn new(catalogs: Arc<CatalogRegistry>) -> Self {
        Self { catalogs }
    }
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    scan: Arc<RemoteScan>,
    groups: Vec<Vec<Split>>,
    /// Whether other leaves read other splits of the scan.
    is_part: bool,
    /// As DataFusion encodes expressions: the join above makes the same filter of its own.
    dynamic_filters: Vec<Vec<u8>>,
}

impl PhysicalExtensionCodec for NodeCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        if let [input] = inputs {
            return Ok(Arc::new(JoinSideExec::new(Arc::clone(input))));
        }
        let encoded: Encoded = serde_json::from_slice(buf)
            .map_err(|e| Error::internal("plan leaf cannot be decoded").caused_by(&e))?;
        let Encoded { scan, groups, is_part, dynamic_filters } = encoded;
        let connector = self.catalogs.connector(&scan.catalog)?;
        let source = connector.row_source().ok_or_else(|| {
            Error::internal(format!("catalog \"{}\" is not a row source", scan.catalog))
        })?;
        let source = guarded(source, &QuerySettings::of(ctx.session_config()));
        let (schema, context) = (scan.output_schema(), PhysicalPlanDecodeContext::new(ctx, self));
        let filter = |bytes: Vec<u8>| {
            let node = PhysicalExprNode::decode(bytes.as_slice())
                .map_err(|e| Error::internal("filter cannot be decoded").caused_by(&e))?;
            converter.proto_to_physical_expr(&node, &schema, &context)
        };
        let filters = dynamic_filters.into_iter().map(filter).collect::<DataFusionResult<_>>()?;
        let leaf = RemoteScanExec::decoded(scan, groups, source, is_part);
        Ok(Arc::new(leaf.with_dynamic_filters(filters)))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> DataFusionResult<()> {
        if node.is::<JoinSideExec>() {
            return Ok(());
        }
        let Some(leaf) = node.downcast_ref::<RemoteScanExec>() else {
            let name = node.name();
            return Err(DataFusionError::Internal(format!("{name} is not a node of ours")));
        };
        let filters = leaf.dynamic_filters().iter();
        let filters = filters.map(|filter| {
            converter.physical_expr_to_proto(filter, self).map(|node| node.encode_to_vec())
        });
        let encoded = Encoded {
            scan: Arc::clone(leaf.scan()),
            groups: leaf.groups().to_vec(),
            is_part: leaf.is_part(),
            dynamic_filters: filters.collect::<DataFusionResult<_>>()?,
        };
        serde_json::to_writer(buf, &encoded)
            .map_err(|e| Error::internal("plan leaf cannot be encoded").caused_by(&e).into())
    }
}
