{{- define "twhin.labels" -}}
app.kubernetes.io/name: twhin
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "twhin.selector" -}}
app.kubernetes.io/name: twhin
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: service
{{- end }}

{{- define "twhin.name" -}}
{{- if contains "twhin" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-twhin{{ end }}
{{- end }}

{{- define "twhin.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* Most replicas there can be. */}}
{{- define "twhin.replicas" -}}
{{ if .Values.autoscaling.enabled }}{{ .Values.autoscaling.maxReplicas }}{{ else }}{{ .Values.replicas }}{{ end }}
{{- end }}

{{- /* What no rendering may go without. */}}
{{- define "twhin.checked" -}}
{{- if not .Values.store.url }}
{{- fail "store.url is empty: name the folder of versions, such as --set store.url=s3://models/twhin" }}
{{- end }}
{{- if and (gt (include "twhin.replicas" . | int) 1) (not .Values.redis.secret) }}
{{- fail "more than one replica without redis.secret: each would know other engagements. Name a secret with the key TWHIN_REDIS_URL, or set replicas=1 and autoscaling.enabled=false" }}
{{- end }}
{{- if .Values.training.enabled }}
{{- if not .Values.training.graph }}{{ fail "training.graph is empty: give the graph, --set-file training.graph=graph.toml" }}{{ end }}
{{- if not .Values.training.claim }}{{ fail "training.claim is empty: name a ReadWriteMany claim for the machines' checkpoints" }}{{ end }}
{{- end }}
{{- if .Values.nightly.enabled }}
{{- if not .Values.nightly.graph }}{{ fail "nightly.graph is empty: give the graph, --set-file nightly.graph=graph.toml" }}{{ end }}
{{- end }}
{{- end }}

{{- define "twhin.container" -}}
securityContext:
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "twhin.pod" -}}
# It asks nothing of the cluster.
automountServiceAccountToken: false
enableServiceLinks: false
serviceAccountName: {{ include "twhin.name" . }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end }}
