//! How plans and batches travel: `RemoteScanExec` as JSON of its scan and splits, for which the receiving
//! node finds the connector; everything over the channels in [`channel`].
//!
//! Together with the coordinator's `fragment/` and `schedule/` and the worker, this is the only place that
//! may name the distributed runtime.

pub mod channel;

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::catalog::CatalogRegistry;
use crate::connector::Split;
use crate::remote::{RemoteScan, RemoteScanExec};

/// Encodes the leaf of row sources; decodes it against the node's own catalogs.
#[derive(Debug)]
pub struct RemoteScanCodec {
    catalogs: Arc<CatalogRegistry>,
}

impl RemoteScanCodec {
    /// Returns the codec of a node.
    pub fn new(catalogs: Arc<CatalogRegistry>) -> Self {
        Self { catalogs }
    }
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    scan: Arc<RemoteScan>,
    groups: Vec<Vec<Split>>,
}

impl PhysicalExtensionCodec for RemoteScanCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        _inputs: &[Arc<dyn ExecutionPlan>],
        _ctx: &TaskContext,
        _converter: &dyn PhysicalProtoConverterExtension,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let Encoded { scan, groups } = serde_json::from_slice(buf)
            .map_err(|e| Error::internal("plan leaf cannot be decoded").caused_by(&e))?;
        let connector = self.catalogs.connector(&scan.catalog)?;
        let source = connector.row_source().ok_or_else(|| {
            Error::internal(format!("catalog \"{}\" is not a row source", scan.catalog))
        })?;
        Ok(Arc::new(RemoteScanExec::with_groups(scan, groups, source)))
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        _converter: &dyn PhysicalProtoConverterExtension,
    ) -> DataFusionResult<()> {
        let Some(leaf) = node.downcast_ref::<RemoteScanExec>() else {
            let name = node.name();
            return Err(DataFusionError::Internal(format!("{name} is not a leaf of ours")));
        };
        let encoded = Encoded { scan: Arc::clone(leaf.scan()), groups: leaf.groups().to_vec() };
        serde_json::to_writer(buf, &encoded)
            .map_err(|e| Error::internal("plan leaf cannot be encoded").caused_by(&e).into())
    }
}
