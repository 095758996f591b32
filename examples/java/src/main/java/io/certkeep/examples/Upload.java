package io.certkeep.examples;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import io.certkeep.v1.CertificateServiceGrpc;
import io.certkeep.v1.Finding;
import io.certkeep.v1.Findings;
import io.certkeep.v1.SearchServerCertificatesRequest;
import io.certkeep.v1.SearchServerCertificatesResponse;
import io.certkeep.v1.Tag;
import io.certkeep.v1.TagResourcesRequest;
import io.certkeep.v1.UploadServerCertificateRequest;
import io.grpc.CallCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.ManagedChannelRegistry.ProviderNotFoundException;
import io.grpc.Metadata;
import io.grpc.SecurityLevel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.Executor;
import picocli.CommandLine;
import picocli.CommandLine.Option;

/**
 * Uploads a pair, tags it, and lists all certificates with its fingerprint. docs/clients.md explains each part.
 *
 * <pre>
 * mvn --file examples/java/pom.xml compile dependency:copy-dependencies
 * java -cp 'target/tools/java/classes:target/tools/java/lib/*' io.certkeep.examples.Upload --region cn-hangzhou \
 *     --access-key-file ~/.local/share/certkeep/admin.key --cert cert.pem --key key.pem
 * </pre>
 *
 * <p>Exit code 1: certkeep refused a call. 2: wrong usage. 4: it is unknown whether a call took effect.
 */
@CommandLine.Command(name = "upload")
public final class Upload implements Callable<Integer> {
  @Option(names = "--endpoint")
  private String endpoint = "http://127.0.0.1:50051";

  @Option(names = "--ca-file", description = "trust the CA certificates in this file instead of the system's")
  private File caFile;

  @Option(names = "--client-token", description = "the token of an earlier upload, to repeat that upload")
  private String clientToken = UUID.randomUUID().toString();

  @Option(names = "--access-key-file", required = true)
  private Path accessKey;

  @Option(names = "--region", required = true)
  private String region;

  @Option(names = "--cert", required = true)
  private Path cert;

  @Option(names = "--key", required = true)
  private Path key;

  public static void main(String[] arguments) {
    System.exit(new CommandLine(new Upload()).execute(arguments));
  }

  @Override
  public Integer call() throws InvalidProtocolBufferException {
    ManagedChannel channel;
    UploadServerCertificateRequest request;
    try {
      request =
          UploadServerCertificateRequest.newBuilder()
              .setRegionId(region)
              .setServerCertificate(read(cert))
              .setPrivateKey(read(key))
              // However often the call is repeated, the pair is stored once.
              .setClientToken(clientToken)
              .build();
      channel = connect(endpoint, read(accessKey).strip(), caFile);
    } catch (IOException error) {
      System.err.println(error);
      return 2;
    } catch (IllegalArgumentException | ProviderNotFoundException error) {
      System.err.println(error.getMessage());
      return 2;
    }
    try {
      upload(CertificateServiceGrpc.newBlockingStub(channel), request);
      return 0;
    } catch (StatusRuntimeException error) {
      show(error);
      switch (error.getStatus().getCode()) {
        // The reason OUTCOME_UNKNOWN, or no answer.
        case UNKNOWN, UNAVAILABLE, DEADLINE_EXCEEDED -> {
          System.err.println(
              "It is unknown whether the call took effect. Repeat the command with --client-token " + clientToken);
          return 4;
        }
        default -> {
          return 1;
        }
      }
    } finally {
      channel.shutdownNow();
    }
  }

  /** Makes one channel. Share it between all threads of a process: it opens its connection again when it breaks. */
  private static ManagedChannel connect(String endpoint, String accessKey, File caFile) throws IOException {
    URI url = URI.create(endpoint);
    String host = String.valueOf(url.getHost());
    Metadata headers = new Metadata();
    headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + accessKey);
    ManagedChannelBuilder<?> channel;
    if ("https".equals(url.getScheme())) {
      // Trusts the CA certificates of this Java, which Debian's packages take from the system.
      TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder();
      if (caFile != null) {
        tls.trustManager(caFile);
      }
      channel =
          Grpc.newChannelBuilder(
              url.getAuthority(), CompositeChannelCredentials.create(tls.build(), sentOverTls(headers)));
    } else if ("http".equals(url.getScheme()) && host.matches("localhost|127(\\.\\d+){3}|\\[::1]")) {
      channel =
          Grpc.newChannelBuilder(url.getAuthority(), InsecureChannelCredentials.create())
              .intercept(MetadataUtils.newAttachHeadersInterceptor(headers));
    } else {
      throw new IllegalArgumentException(
          endpoint + " would get the access key in plain text over the network: use https");
    }
    try (var file = new InputStreamReader(Upload.class.getResourceAsStream("/service_config.json"), UTF_8)) {
      // The deadline and the retry policy of each method.
      Map<String, ?> serviceConfig = new Gson().fromJson(file, new TypeToken<Map<String, Object>>() {});
      return channel.defaultServiceConfig(serviceConfig).enableRetry().build();
    }
  }

  private static CallCredentials sentOverTls(Metadata headers) {
    return new CallCredentials() {
      @Override
      public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
        if (call.getSecurityLevel() == SecurityLevel.PRIVACY_AND_INTEGRITY) {
          applier.apply(headers);
        } else {
          applier.fail(Status.UNAUTHENTICATED.withDescription("the access key is sent over TLS only"));
        }
      }
    };
  }

  private static void upload(
      CertificateServiceGrpc.CertificateServiceBlockingStub service, UploadServerCertificateRequest request) {
    var uploaded = service.uploadServerCertificate(request);
    showFindings(uploaded.getFindingsList());
    service.tagResources(
        TagResourcesRequest.newBuilder()
            .setRegionId(uploaded.getRegionId())
            .setResourceType("certificate")
            .addResourceIds(uploaded.getServerCertificateId())
            .addTags(Tag.newBuilder().setKey("example").setValue("java"))
            .build());
    var search = SearchServerCertificatesRequest.newBuilder().setFingerprint(uploaded.getFingerprintSha256());
    SearchServerCertificatesResponse page;
    do {
      page = service.searchServerCertificates(search.build());
      for (var certificate : page.getServerCertificatesList()) {
        System.out.println(
            certificate.getServerCertificateId()
                + " " + certificate.getCommonName()
                + " " + certificate.getExpireTime());
      }
      search.setPageToken(page.getNextPageToken());
    } while (!page.getNextPageToken().isEmpty());
  }

  private static void showFindings(List<Finding> findings) {
    for (Finding finding : findings) {
      String severity = finding.getSeverity().name().replaceFirst("^SEVERITY_", "").toLowerCase(Locale.ROOT);
      String code = finding.getCode().name().replaceFirst("^FINDING_CODE_", "");
      String remedy = finding.getRemedy().isEmpty() ? "" : "; " + finding.getRemedy();
      System.err.println(severity + " " + code + ": " + finding.getMessage() + remedy);
    }
  }

  /** Prints the reason, every wrong field, the findings and the request id, which is also in the log of the service. */
  private static void show(StatusRuntimeException error) throws InvalidProtocolBufferException {
    Throwable cause = error;
    while (cause.getCause() != null) {
      cause = cause.getCause();
    }
    Status status = error.getStatus();
    String suffix = cause == error ? "" : ": " + cause.getMessage();
    System.err.println(status.getCode() + ": " + status.getDescription() + suffix);
    for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        System.err.println("  reason " + detail.unpack(ErrorInfo.class).getReason());
      } else if (detail.is(BadRequest.class)) {
        for (var violation : detail.unpack(BadRequest.class).getFieldViolationsList()) {
          System.err.println("  " + violation.getField() + ": " + violation.getDescription());
        }
      } else if (detail.is(Findings.class)) {
        showFindings(detail.unpack(Findings.class).getFindingsList());
      } else if (detail.is(RequestInfo.class)) {
        System.err.println("  request id " + detail.unpack(RequestInfo.class).getRequestId());
      }
    }
  }

  private static String read(Path file) throws IOException {
    return new String(Files.readAllBytes(file), UTF_8);
  }
}
