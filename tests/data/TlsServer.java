import java.io.FileInputStream;
import java.security.KeyStore;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;

/** Serves each PKCS#12 file on a port of its own, to one client. Arguments: the password and the files. */
public class TlsServer {
  public static void main(String[] args) throws Exception {
    char[] password = args[0].toCharArray();
    for (int i = 1; i < args.length; i++) {
      KeyStore store = KeyStore.getInstance("PKCS12");
      try (FileInputStream file = new FileInputStream(args[i])) {
        store.load(file, password);
      }
      KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
      keys.init(store, password);
      SSLContext context = SSLContext.getInstance("TLS");
      context.init(keys.getKeyManagers(), null, null);
      try (SSLServerSocket server = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0)) {
        System.out.println(store.aliases().nextElement() + " " + server.getLocalPort());
        try (SSLSocket client = (SSLSocket) server.accept()) {
          client.getOutputStream().write("served by Java".getBytes());
        }
      }
    }
  }
}
