//! `/twirp/livekit.AgentDispatchService/…`: which agents a room has (livekit.md 5.3).

use crate::agent::DispatchError;
use crate::http::twirp::{Caller, administers};
use crate::hub::{self, Call, CallError};
use crate::protocol::livekit::{
    CreateAgentDispatchRequest, DeleteAgentDispatchRequest, ListAgentDispatchRequest,
    ListAgentDispatchResponse,
};
use crate::protocol::twirp::Error;

/// The service's name.
pub(super) const SERVICE: &str = "livekit.AgentDispatchService";
/// Its methods.
pub(super) const METHODS: &[&str] = &["CreateDispatch", "DeleteDispatch", "ListDispatch"];

impl Caller<'_> {
    /// Does what one of the methods is for.
    pub(super) async fn dispatch_service(
        &self,
        method: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let grant = self.claims.video.clone().unwrap_or_default();
        let agents = self.app.hub.agents();
        match method {
            "CreateDispatch" => {
                let request: CreateAgentDispatchRequest = self.wire.decode(body)?;
                administers(&grant, &request.room)?;
                let work = async {
                    hub::check_dispatch(&self.app.limits, &request)?;
                    // A room that is there stays as it is, and one that is not is made if anybody's join would make
                    // it. The keeper of agents knows it when this returns.
                    let expected = Call::Expect {
                        room: request.room.clone(),
                        is_dependent: true,
                    };
                    self.app.hub.call(expected).await?;
                    agents.create_dispatch(request).await.map_err(fault)
                };
                Ok(self.wire.encode(&self.in_time(work).await?))
            }
            "DeleteDispatch" => {
                let request: DeleteAgentDispatchRequest = self.wire.decode(body)?;
                administers(&grant, &request.room)?;
                let work = async { agents.delete_dispatch(request).await.map_err(fault) };
                Ok(self.wire.encode(&self.in_time(work).await?))
            }
            _ => {
                let request: ListAgentDispatchRequest = self.wire.decode(body)?;
                administers(&grant, &request.room)?;
                let work = async { agents.list_dispatches(request).await.map_err(fault) };
                let agent_dispatches = self.in_time(work).await?;
                let response = ListAgentDispatchResponse { agent_dispatches };
                Ok(self.wire.encode(&response))
            }
        }
    }
}

fn fault(error: DispatchError) -> CallError {
    match error {
        DispatchError::RoomNotFound => CallError::RoomNotFound,
        DispatchError::NotFound => CallError::DispatchNotFound,
        DispatchError::TooMany => CallError::TooMany("agent dispatches"),
        DispatchError::Stopping => CallError::Stopping,
    }
}
