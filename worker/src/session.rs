//! Builds a task's session: its query's settings from the headers, the catalogs at the query's generation,
//! the codecs, the channels to other workers.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::DataFusionError;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion_distributed::{
    ChannelResolver, DistributedExt, WorkerQueryContext, WorkerSessionBuilder,
};
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use meshwork_engine::catalog::CatalogRegistry;
use meshwork_engine::codec::NodeCodec;
use meshwork_engine::codec::channel::named_task;
use meshwork_engine::functions;
use meshwork_engine::settings::{QuerySettings, set_for_all_nodes};

use crate::control::Control;
use crate::stoppable::make_stoppable;
use crate::tasks::Tasks;

/// Adds to a session what coordinator and workers must both have, beyond the functions of the engine.
pub type Prepare = fn(SessionStateBuilder) -> SessionStateBuilder;

/// What every task of a worker shares.
#[derive(Clone)]
pub(crate) struct TaskSessions {
    pub(crate) catalogs: Arc<CatalogRegistry>,
    pub(crate) channels: Arc<dyn ChannelResolver + Send + Sync>,
    pub(crate) codecs: Vec<Arc<dyn PhysicalExtensionCodec>>,
    pub(crate) prepare: Option<Prepare>,
    /// Whom to ask for newer catalogs; nobody where the coordinator's own registry is used.
    pub(crate) control: Option<Arc<Control>>,
    pub(crate) tasks: Arc<Tasks>,
}

impl fmt::Debug for TaskSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSessions").finish_non_exhaustive()
    }
}

#[async_trait]
impl WorkerSessionBuilder for TaskSessions {
    async fn build_session_state(
        &self,
        context: WorkerQueryContext,
    ) -> Result<SessionState, DataFusionError> {
        let WorkerQueryContext { builder, headers } = context;
        let mut builder =
            builder.with_distributed_option_extension_from_headers::<QuerySettings>(&headers)?;
        let mut config = builder.config().take().unwrap_or_default();
        let settings = QuerySettings::of(&config);
        set_for_all_nodes(config.options_mut(), &settings);
        config.set_extension(self.tasks.begin(named_task(&headers), &settings.query_id));
        let mut builder = builder.with_config(config.with_batch_size(settings.batch_size.max(1)));
        if let Some(control) = &self.control {
            control.catalogs_at(settings.catalogs_generation).await?;
        }
        builder = builder
            .with_distributed_user_codec(NodeCodec::new(Arc::clone(&self.catalogs)))
            .with_distributed_channel_resolver(Arc::clone(&self.channels))
            .with_distributed_worker_plan_rewrite_handler(make_stoppable);
        for codec in &self.codecs {
            builder = builder.with_distributed_user_codec_arc(Arc::clone(codec));
        }
        builder = functions::register(builder);
        if let Some(prepare) = self.prepare {
            builder = prepare(builder);
        }
        Ok(builder.build())
    }
}
