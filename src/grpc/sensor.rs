//! `SensorService`: what the bank's administrators call.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::convert::{noun, sensor};
use super::peer::AdminPermit;
use crate::domain::id::SensorKeyId;
use crate::gateway::Gateway;
use crate::proto;
use crate::proto::sensor_service_server::SensorService;

/// The service over a gateway.
#[derive(Debug)]
pub struct SensorDesk(pub Arc<Gateway>);

#[tonic::async_trait]
impl SensorService for SensorDesk {
    async fn register_sensor(
        &self,
        request: Request<proto::RegisterSensorRequest>,
    ) -> Result<Response<proto::RegisterSensorResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let asked = sensor::new_sensor(request.into_inner())?;
        self.0.register_sensor(permit.actor(), asked).await?;
        Ok(Response::new(proto::RegisterSensorResponse {}))
    }

    async fn rotate_sensor(
        &self,
        request: Request<proto::RotateSensorRequest>,
    ) -> Result<Response<proto::RotateSensorResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::RotateSensorRequest { sensor_id, key, overlap_s, firmware } =
            request.into_inner();
        let (id, key) = (sensor::sensor_id(&sensor_id)?, sensor::new_key(key)?);
        let firmware = sensor::remark("firmware", firmware)?;
        let overlap_ms = i64::from(overlap_s) * 1_000;
        self.0.rotate_sensor(permit.actor(), &id, key, overlap_ms, firmware).await?;
        Ok(Response::new(proto::RotateSensorResponse {}))
    }

    async fn suspend_sensor(
        &self,
        request: Request<proto::SuspendSensorRequest>,
    ) -> Result<Response<proto::SuspendSensorResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::SuspendSensorRequest { sensor_id } = request.into_inner();
        self.0.suspend_sensor(permit.actor(), &sensor::sensor_id(&sensor_id)?).await?;
        Ok(Response::new(proto::SuspendSensorResponse {}))
    }

    async fn resume_sensor(
        &self,
        request: Request<proto::ResumeSensorRequest>,
    ) -> Result<Response<proto::ResumeSensorResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::ResumeSensorRequest { sensor_id } = request.into_inner();
        self.0.resume_sensor(permit.actor(), &sensor::sensor_id(&sensor_id)?).await?;
        Ok(Response::new(proto::ResumeSensorResponse {}))
    }

    async fn revoke_sensor(
        &self,
        request: Request<proto::RevokeSensorRequest>,
    ) -> Result<Response<proto::RevokeSensorResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::RevokeSensorRequest { sensor_id, key_id } = request.into_inner();
        let (id, key) = (sensor::sensor_id(&sensor_id)?, sensor::maybe_key_id(&key_id)?);
        self.0.revoke_sensor(permit.actor(), &id, key).await?;
        Ok(Response::new(proto::RevokeSensorResponse {}))
    }

    async fn list_sensors(
        &self,
        request: Request<proto::ListSensorsRequest>,
    ) -> Result<Response<proto::ListSensorsResponse>, Status> {
        AdminPermit::of(request.extensions())?;
        let proto::ListSensorsRequest { page_size, page_token } = request.into_inner();
        let limit = noun::page_size(page_size)?;
        let after = noun::page_after(&page_token, |token| SensorKeyId::try_from(token).ok())?;
        let page = self.0.sensor_keys(after.as_ref(), limit).await?;
        let next_page_token = noun::next_page(&page, limit, |row| row.key_id.to_string());
        let now = self.0.now();
        let sensors = page.into_iter().map(|row| sensor::sensor(row, now)).collect();
        Ok(Response::new(proto::ListSensorsResponse { sensors, next_page_token }))
    }
}
