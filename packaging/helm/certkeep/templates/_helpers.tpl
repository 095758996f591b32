{{- define "certkeep.name" -}}
{{- if contains "certkeep" .Release.Name }}{{ .Release.Name | trunc 53 | trimSuffix "-" }}{{ else }}{{ printf "%s-certkeep" .Release.Name | trunc 53 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "certkeep.selector" -}}
app.kubernetes.io/name: certkeep
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "certkeep.labels" -}}
{{ include "certkeep.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "certkeep.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* The user of the image. The group reads the Secrets: certkeep wants mode 0440 of root. */}}
{{- define "certkeep.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "certkeep.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- /* The root of an emptyDir has mode 0777, which certkeep refuses. */}}
{{- define "certkeep.dataDirectory" -}}
- name: data-directory
  image: {{ include "certkeep.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [install, -d, -m, "700", /data/certkeep]
  securityContext: {{- include "certkeep.security" . | nindent 4 }}
  volumeMounts:
    - { name: data, mountPath: /data }
{{- end }}

{{- define "certkeep.databaseEnv" -}}
- { name: CERTKEEP_DATA_DIR, value: /data/certkeep }
- { name: CERTKEEP_DATABASE_URL_FILE, value: /etc/certkeep/database/url }
{{- if .Values.database.hasOwner }}
- { name: CERTKEEP_DATABASE_OWNER_URL_FILE, value: /etc/certkeep/database/owner-url }
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "certkeep.databaseVolumes" -}}
- name: data
  emptyDir: { sizeLimit: 16Mi }
- name: database
  secret:
    secretName: {{ required "database.secret: the name of a Secret with the database's URL" .Values.database.secret }}
    defaultMode: 0440
{{- end }}
