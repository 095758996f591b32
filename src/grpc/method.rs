//! The methods that are served. Any other path is the caller's text. Logs and metrics must not repeat it.

use std::collections::HashMap;
use std::sync::Arc;

use prost_reflect::DescriptorPool;

use super::DESCRIPTORS;

/// A served method.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Method {
    /// The full name of its service.
    pub(super) service: String,
    /// The name of the method.
    pub(super) name: String,
    /// Whether the method answers with a stream.
    pub(super) is_stream: bool,
    /// Whether the method takes a stream of requests.
    pub(super) takes_stream: bool,
    /// Whether the method needs no access key. Monitors and grpcurl call health and reflection before they have a key.
    pub(super) is_open: bool,
    /// Whether the method checks the health of the service.
    pub(super) is_health: bool,
    /// Whether the method can change something.
    pub(super) changes: bool,
    /// Whether the method exists.
    pub(super) is_served: bool,
}

/// The names of methods that change nothing begin so.
const READS: [&str; 11] = [
    "Check", "Delta", "Describe", "Fetch", "Get", "List", "Search", "Stream", "Tail", "Verify", "Watch",
];

/// The methods by path.
pub(super) struct Methods {
    served: HashMap<String, Arc<Method>>,
    unknown: Arc<Method>,
}

impl Methods {
    /// All methods that [`Door`](super::Door) serves, with reflection or without.
    pub(super) fn new(reflection: bool) -> Self {
        let mut served = HashMap::new();
        let mut services = vec![(DESCRIPTORS, false), (tonic_health::pb::FILE_DESCRIPTOR_SET, true)];
        if reflection {
            services.push((tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET, true));
            services.push((tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET, true));
        }
        for (descriptors, is_open) in services {
            // The build made these descriptors. A test finds them all.
            let pool = DescriptorPool::decode(descriptors).unwrap_or_default();
            for method in pool
                .services()
                .flat_map(|service| service.methods().collect::<Vec<_>>())
            {
                let method = Method {
                    service: method.parent_service().full_name().to_owned(),
                    name: method.name().to_owned(),
                    is_stream: method.is_server_streaming(),
                    takes_stream: method.is_client_streaming(),
                    is_open,
                    is_health: method.parent_service().full_name() == tonic_health::pb::health_server::SERVICE_NAME,
                    changes: !is_open && !READS.iter().any(|read| method.name().starts_with(read)),
                    is_served: true,
                };
                served.insert(format!("/{}/{}", method.service, method.name), Arc::new(method));
            }
        }
        let unknown = Arc::new(Method {
            service: "unknown".to_owned(),
            name: "unknown".to_owned(),
            is_stream: false,
            takes_stream: false,
            is_open: false,
            is_health: false,
            changes: false,
            is_served: false,
        });
        Self { served, unknown }
    }

    /// The method of this path. For a path that is not served, its names are `unknown`.
    pub(super) fn of(&self, path: &str) -> Arc<Method> {
        self.served.get(path).unwrap_or(&self.unknown).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_that_are_served_have_names() {
        let methods = Methods::new(true);
        for (path, name, is_stream, is_open) in [
            (
                "/certkeep.v1.CertificateService/DescribeRegions",
                "DescribeRegions",
                false,
                false,
            ),
            ("/grpc.health.v1.Health/Check", "Check", false, true),
            ("/grpc.health.v1.Health/Watch", "Watch", true, true),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                "ServerReflectionInfo",
                true,
                true,
            ),
            (
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                "ServerReflectionInfo",
                true,
                true,
            ),
            ("/certkeep.v1.CertificateService/Nonsense", "unknown", false, false),
            ("/grpc.health.v1.Health/Nonsense", "unknown", false, false),
            ("/x.Y/DescribeRegions", "unknown", false, false),
            ("", "unknown", false, false),
            ("/", "unknown", false, false),
        ] {
            let method = methods.of(path);
            assert_eq!(
                (method.name.as_str(), method.is_stream, method.is_open),
                (name, is_stream, is_open),
                "{path}"
            );
        }
    }

    #[test]
    fn every_method_has_roles_and_a_name_of_its_own() {
        let methods = Methods::new(true);
        let needs_role: Vec<_> = methods.served.values().filter(|method| !method.is_open).collect();
        let without: Vec<_> = needs_role
            .iter()
            .filter(|method| crate::app::roles_of(&method.name).is_empty())
            .collect();
        assert!(without.is_empty(), "src/app/permission.rs lacks {without:?}");
        let names: std::collections::HashSet<_> = needs_role.iter().map(|method| &method.name).collect();
        assert_eq!(
            names.len(),
            needs_role.len(),
            "the table of roles knows a method by its name alone"
        );
    }
}
