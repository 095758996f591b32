// Tells what Go's crypto/x509 says about certificates.
//
// A line of standard input is a Unix time and certificates in base64, with a space between them: a trusted root, a server certificate, and
// the certificates between them. A line of standard output answers it: why the server certificate is refused, or nothing.
package main

import (
	"bufio"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"
)

func refusal(at time.Time, texts []string) error {
	var certificates []*x509.Certificate
	for _, text := range texts {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			log.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("parse: %w", err)
		}
		certificates = append(certificates, certificate)
	}
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at}
	options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	options.Roots.AddCert(certificates[0])
	for _, certificate := range certificates[2:] {
		options.Intermediates.AddCert(certificate)
	}
	if _, err := certificates[1].Verify(options); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<20)
	for input.Scan() {
		fields := strings.Fields(input.Text())
		seconds, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			log.Fatal(err)
		}
		answer := ""
		if err := refusal(time.Unix(seconds, 0), fields[1:]); err != nil {
			answer = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Println(answer)
	}
	if err := input.Err(); err != nil {
		log.Fatal(err)
	}
}
