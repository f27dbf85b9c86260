//! The client for S3 and services that speak its protocol, as the customary variables say.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, RetryConfig};

use crate::Error;

/// Tries of a single request that fails for a passing reason, after the first: within about 3 seconds.
const REQUEST_RETRIES: usize = 5;

pub(crate) fn client(url: &str, bucket: &str) -> Result<Arc<dyn ObjectStore>, Error> {
    // Fails where another part of the program has chosen before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: REQUEST_RETRIES,
        retry_timeout: Duration::from_secs(120),
    };
    let wrong = |reason: String| Error::Url {
        url: url.to_owned(),
        reason,
    };
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retry);
    if env::var_os("AWS_TIMEOUT").is_none() {
        // A part on a slow line takes longer than the 30 seconds that a request has by itself.
        let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
        builder = builder.with_config(timeout, "300 seconds");
    }
    if let Some(endpoint) = plain_endpoint(&builder) {
        return Err(wrong(format!(
            "the endpoint `{endpoint}` is not encrypted; set `AWS_ALLOW_HTTP=true` if that is meant"
        )));
    }
    let client = builder.build().map_err(|error| wrong(error.to_string()))?;
    Ok(Arc::new(client))
}

/// The endpoint, if it is an `http://` one that was not allowed: found here, it does not have to be
/// guessed from a request that failed.
fn plain_endpoint(builder: &AmazonS3Builder) -> Option<String> {
    let value = |key| builder.get_config_value(&key);
    let endpoint = value(AmazonS3ConfigKey::S3Endpoint).or(value(AmazonS3ConfigKey::Endpoint))?;
    let allowed = value(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp));
    let is_plain = endpoint.starts_with("http://");
    (is_plain && allowed.as_deref() != Some("true")).then_some(endpoint)
}

/// What to add to the message of a failed request.
pub(crate) fn hint() -> &'static str {
    if env::var_os("AWS_ACCESS_KEY_ID").is_some() {
        return "";
    }
    "; hint: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` are not set, and `~/.aws` is not read"
}
