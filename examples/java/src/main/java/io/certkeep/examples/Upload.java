package io.certkeep.examples;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RequestInfo;
import io.certkeep.v1.CertificateServiceGrpc;
import io.certkeep.v1.SearchServerCertificatesRequest;
import io.certkeep.v1.Tag;
import io.certkeep.v1.TagResourcesRequest;
import io.certkeep.v1.UploadServerCertificateRequest;
import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/**
 * Uploads a pair, tags it, searches for it by its fingerprint, and prints the details of an error.
 *
 * <p>Maven generates the client: {@code mvn compile dependency:copy-dependencies}, then {@code java -cp
 * "../../target/tools/java/classes:../../target/tools/java/lib/*" io.certkeep.examples.Upload}.
 */
public final class Upload {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  public static void main(String[] arguments) throws IOException {
    Map<String, String> options = new HashMap<>(Map.of("--address", "127.0.0.1:50051"));
    for (int i = 0; i + 1 < arguments.length; i += 2) {
      options.put(arguments[i], arguments[i + 1]);
    }
    for (String name : new String[] {"--access-key-file", "--region", "--cert", "--key"}) {
      if (!options.containsKey(name)) {
        System.err.println(name + " is missing");
        System.exit(2);
      }
    }

    Metadata headers = new Metadata();
    headers.put(AUTHORIZATION, "Bearer " + read(options.get("--access-key-file")).strip());
    UploadServerCertificateRequest request =
        UploadServerCertificateRequest.newBuilder()
            .setRegionId(options.get("--region"))
            .setServerCertificate(read(options.get("--cert")))
            .setPrivateKey(read(options.get("--key")))
            .build();
    // With a CA file, use TLS.
    String authorities = options.get("--ca-file");
    ChannelCredentials credentials =
        authorities == null
            ? InsecureChannelCredentials.create()
            : TlsChannelCredentials.newBuilder().trustManager(Path.of(authorities).toFile()).build();
    ManagedChannel channel =
        Grpc.newChannelBuilder(options.get("--address"), credentials)
            .intercept(MetadataUtils.newAttachHeadersInterceptor(headers))
            .build();
    try {
      upload(CertificateServiceGrpc.newBlockingStub(channel), request);
    } catch (StatusRuntimeException error) {
      show(error);
      System.exit(1);
    } finally {
      channel.shutdownNow();
    }
  }

  private static void upload(
      CertificateServiceGrpc.CertificateServiceBlockingStub service, UploadServerCertificateRequest request) {
    var uploaded = service.withDeadlineAfter(10, TimeUnit.SECONDS).uploadServerCertificate(request);
    service
        .withDeadlineAfter(10, TimeUnit.SECONDS)
        .tagResources(
            TagResourcesRequest.newBuilder()
                .setRegionId(uploaded.getRegionId())
                .setResourceType("certificate")
                .addResourceIds(uploaded.getServerCertificateId())
                .addTags(Tag.newBuilder().setKey("example").setValue("java"))
                .build());
    var found =
        service
            .withDeadlineAfter(10, TimeUnit.SECONDS)
            .searchServerCertificates(
                SearchServerCertificatesRequest.newBuilder()
                    .setFingerprint(uploaded.getFingerprintSha256())
                    .build());
    for (var certificate : found.getServerCertificatesList()) {
      System.out.println(
          certificate.getServerCertificateId()
              + " " + certificate.getCommonName()
              + " " + certificate.getExpireTime());
      System.out.println(
          certificate.getKeyAlgorithm()
              + " " + certificate.getKeySize()
              + " " + certificate.getFingerprint());
    }
  }

  /** Prints the reason, every wrong field, and the request id. The request id is also in the server's log. */
  private static void show(StatusRuntimeException error) throws InvalidProtocolBufferException {
    Status status = error.getStatus();
    String cause = status.getCause() == null ? "" : ": " + status.getCause().getMessage();
    System.err.println(status.getCode() + ": " + status.getDescription() + cause);
    for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        System.err.println("  reason " + detail.unpack(ErrorInfo.class).getReason());
      } else if (detail.is(BadRequest.class)) {
        for (var violation : detail.unpack(BadRequest.class).getFieldViolationsList()) {
          System.err.println("  " + violation.getField() + ": " + violation.getDescription());
        }
      } else if (detail.is(RequestInfo.class)) {
        System.err.println("  request id " + detail.unpack(RequestInfo.class).getRequestId());
      }
    }
  }

  private static String read(String path) throws IOException {
    return Files.readString(Path.of(path));
  }
}
