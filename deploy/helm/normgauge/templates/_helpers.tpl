{{- define "normgauge.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "normgauge.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "normgauge.labels" -}}
{{ include "normgauge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "normgauge.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* What every pod of ours has: no root, no privileges, no token of the cluster. */}}
{{- define "normgauge.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "normgauge.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* The variables that the service and the migration share. Secrets are read from mounted files. */}}
{{- define "normgauge.environment" -}}
- name: NORMGAUGE_DATABASE_URL_FILE
  value: /run/secrets/database/{{ .Values.database.key }}
- name: NORMGAUGE_MIGRATE_AT_START
  value: "false"
- name: NORMGAUGE_LOG_FORMAT
  value: json
{{- end }}

{{- define "normgauge.mounts" -}}
- name: temporary
  mountPath: /tmp
- name: database
  mountPath: /run/secrets/database
  readOnly: true
{{- end }}

{{- define "normgauge.volumes" -}}
- name: temporary
  emptyDir:
    sizeLimit: {{ .Values.temporary.sizeLimit }}
- name: database
  secret:
    secretName: {{ .Values.database.existingSecret }}
    items:
      - key: {{ .Values.database.key }}
        path: {{ .Values.database.key }}
{{- end }}
