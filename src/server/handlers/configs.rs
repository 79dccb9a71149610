//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs.

use super::topics::{ItemResult, change_each};
use crate::cluster::controller::{
    AlterOp, Alteration, Change, ConfigAlteration, ConfigEdit, ConfigTarget, ControllerError,
};
use crate::config::{DescribedConfig, describe_topic};
use crate::model::BrokerId;
use crate::rt::Runtime;
use crate::server::context::Context;
use crate::server::errors::outcome;
use crate::server::request::Request;
use crate::wire::ErrorCode;
use crate::wire::messages::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse,
};

/// Kafka's `ConfigResource.Type`.
const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;

/// Serves DescribeConfigs: every key with value, source, type and documentation.
pub async fn describe_configs<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<DescribeConfigsRequest<'a>>,
) -> DescribeConfigsResponse<'a> {
    let results = request.resources.iter().map(|asked| {
        let described = resource(context, asked.resource_type, &asked.resource_name)
            .and_then(|target| describe(context, &target));
        let (error_code, error_message) = outcome(&described);
        let configs = described.unwrap_or_default();
        let configs = configs
            .into_iter()
            .filter(|config| wants(asked, &config.name));
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name.clone(),
            configs: configs.map(|config| shown(config, request)).collect(),
        }
    });
    let results = results.collect();
    DescribeConfigsResponse {
        throttle_time_ms: 0,
        results,
    }
}

fn wants(asked: &DescribeConfigsResource<'_>, name: &str) -> bool {
    asked
        .configuration_keys
        .as_ref()
        .is_none_or(|keys| keys.iter().any(|key| key == name))
}

fn describe<R: Runtime>(
    context: &Context<R>,
    target: &ConfigTarget,
) -> Result<Vec<DescribedConfig>, ControllerError> {
    let shard = &context.shard;
    let dynamic = shard.dynamic_configs();
    match target {
        ConfigTarget::Topic(name) => {
            let image = shard.image();
            let topic = image
                .topic(name)
                .ok_or_else(|| ControllerError::UnknownTopic(name.clone()))?;
            Ok(describe_topic(
                shard.settings(),
                &dynamic,
                &shard.config(),
                &topic.configs,
            ))
        }
        ConfigTarget::Broker(Some(_)) => Ok(shard.settings().describe(&dynamic)),
        // The cluster's default shows only what was set for it.
        ConfigTarget::Broker(None) => Ok(shard
            .settings()
            .describe(&dynamic)
            .into_iter()
            .filter(|config| dynamic.cluster.contains_key(&*config.name))
            .collect()),
    }
}

fn shown(
    config: DescribedConfig,
    request: &DescribeConfigsRequest<'_>,
) -> DescribeConfigsResourceResult<'static> {
    let synonyms = config
        .synonyms
        .into_iter()
        .map(|synonym| DescribeConfigsSynonym {
            name: synonym.name.into(),
            value: Some(synonym.value.into()),
            source: synonym.source as i8,
        });
    DescribeConfigsResourceResult {
        name: config.name,
        value: config.value.filter(|_| !config.sensitive).map(Into::into),
        read_only: config.read_only,
        config_source: config.source as i8,
        is_sensitive: config.sensitive,
        synonyms: if request.include_synonyms {
            synonyms.collect()
        } else {
            Vec::new()
        },
        config_type: config.config_type as i8,
        documentation: request.include_documentation.then(|| {
            let documentation = config.documentation.trim();
            match config.invalid {
                Some(why) => format!("Does not hold: {why}. {documentation}").into(),
                None => documentation.into(),
            }
        }),
    }
}

/// What is asked for one resource, if it makes sense.
struct Asked<'r> {
    resource_type: i8,
    name: &'r str,
    alteration: Result<ConfigAlteration, ControllerError>,
}

/// Alters the settings of each resource, and says what has become of each.
async fn alter_each<R: Runtime>(
    context: &Context<R>,
    asked: impl Iterator<Item = Asked<'_>>,
    validate_only: bool,
) -> Vec<AlterConfigsResourceResponse<'static>> {
    let named = |asked: Asked<'_>| {
        (
            (asked.resource_type, asked.name.to_owned()),
            asked.alteration,
        )
    };
    let (names, alterations): (Vec<_>, _) = asked.map(named).unzip();
    let results = change_each(context, alterations, validate_only, Change::AlterConfigs).await;
    let told = names.into_iter().zip(&results);
    told.map(|((resource_type, name), result)| altered(resource_type, name, result))
        .collect()
}

/// Serves AlterConfigs: the given settings of a resource and no others.
pub async fn alter_configs<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<AlterConfigsRequest<'a>>,
) -> AlterConfigsResponse<'a> {
    let asked = request.resources.iter().map(|asked| Asked {
        resource_type: asked.resource_type,
        name: &asked.resource_name,
        alteration: replace(context, asked),
    });
    AlterConfigsResponse {
        throttle_time_ms: 0,
        responses: alter_each(context, asked, request.validate_only).await,
    }
}

fn replace<R: Runtime>(
    context: &Context<R>,
    asked: &AlterConfigsResource<'_>,
) -> Result<ConfigAlteration, ControllerError> {
    let target = resource(context, asked.resource_type, &asked.resource_name)?;
    let configs = asked.configs.iter().map(|config| {
        let value = config.value.as_deref().map(str::to_owned);
        (config.name.to_string(), value)
    });
    let edit = ConfigEdit::Replace(configs.collect());
    Ok(ConfigAlteration { target, edit })
}

/// Serves IncrementalAlterConfigs: some settings of a resource (KIP-339).
pub async fn incremental_alter_configs<'a, R: Runtime>(
    context: &Context<R>,
    request: &Request<IncrementalAlterConfigsRequest<'a>>,
) -> IncrementalAlterConfigsResponse<'a> {
    let asked = request.resources.iter().map(|asked| Asked {
        resource_type: asked.resource_type,
        name: &asked.resource_name,
        alteration: steps(context, asked),
    });
    IncrementalAlterConfigsResponse {
        throttle_time_ms: 0,
        responses: alter_each(context, asked, request.validate_only).await,
    }
}

fn steps<R: Runtime>(
    context: &Context<R>,
    asked: &IncrementalAlterConfigsResource<'_>,
) -> Result<ConfigAlteration, ControllerError> {
    let target = resource(context, asked.resource_type, &asked.resource_name)?;
    let mut alterations = Vec::with_capacity(asked.configs.len());
    for config in &asked.configs {
        let op = match config.config_operation {
            0 => AlterOp::Set,
            1 => AlterOp::Delete,
            2 => AlterOp::Append,
            3 => AlterOp::Subtract,
            other => {
                let why = format!("Operation {other} is none of 0 to 3.");
                return Err(ControllerError::InvalidRequest(why));
            }
        };
        let value = config.value.as_deref().map(str::to_owned);
        alterations.push(Alteration {
            key: config.name.to_string(),
            op,
            value,
        });
    }
    let edit = ConfigEdit::Steps(alterations);
    Ok(ConfigAlteration { target, edit })
}

fn altered(
    resource_type: i8,
    resource_name: String,
    result: &ItemResult,
) -> AlterConfigsResourceResponse<'static> {
    let (error_code, error_message): (ErrorCode, _) = outcome(result);
    AlterConfigsResourceResponse {
        error_code,
        error_message,
        resource_type,
        resource_name: resource_name.into(),
    }
}

/// A shard is a broker to clients, but settings are its node's: every broker id of the node names it.
fn resource<R: Runtime>(
    context: &Context<R>,
    resource_type: i8,
    name: &str,
) -> Result<ConfigTarget, ControllerError> {
    match resource_type {
        RESOURCE_TOPIC => Ok(ConfigTarget::Topic(name.to_owned())),
        RESOURCE_BROKER if name.is_empty() => Ok(ConfigTarget::Broker(None)),
        RESOURCE_BROKER => {
            let id: i32 = name.parse().map_err(|_| {
                ControllerError::InvalidRequest(format!("'{name}' is no broker id."))
            })?;
            let image = context.shard.image();
            let place = image.shards().find(|place| place.broker() == BrokerId(id));
            let unknown = || ControllerError::InvalidRequest(format!("There is no broker {id}."));
            Ok(ConfigTarget::Broker(Some(place.ok_or_else(unknown)?.node)))
        }
        other => {
            let why = format!("Resources of type {other} have no settings here.");
            Err(ControllerError::InvalidRequest(why))
        }
    }
}
