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
{{- if eq (empty .Values.training.graph) (empty .Values.training.graphUrl) }}{{ fail "training.graph is empty: give the graph, --set-file training.graph=graph.toml, or else training.graphUrl, and not both" }}{{ end }}
{{- if not .Values.training.claim }}{{ fail "training.claim is empty: name a ReadWriteMany claim for the machines' checkpoints" }}{{ end }}
{{- end }}
{{- if .Values.nightly.enabled }}
{{- if not .Values.nightly.graph }}{{ fail "nightly.graph is empty: give the graph, --set-file nightly.graph=graph.toml" }}{{ end }}
{{- if and .Values.nightly.spark.master (not .Values.nightly.spark.claim) }}{{ fail "nightly.spark.claim is empty: name a ReadWriteMany claim that Spark's workers mount at /shared, too" }}{{ end }}
{{- end }}
{{- if .Values.preparing.enabled }}
{{- if not .Values.preparing.graph }}{{ fail "preparing.graph is empty: give the graph, --set-file preparing.graph=graph.toml" }}{{ end }}
{{- if not .Values.preparing.out }}{{ fail "preparing.out is empty: name a new folder in a store for the prepared graph" }}{{ end }}
{{- if not .Values.preparing.image }}{{ fail "preparing.image is empty: name an image of Spark with this package" }}{{ end }}
{{- if not .Values.preparing.claim }}{{ fail "preparing.claim is empty: name a ReadWriteMany claim for what driver and executors share" }}{{ end }}
{{- end }}
{{- end }}

{{- /* Driver and executors hand over through a directory that they share. */}}
{{- define "twhin.sparkPod" -}}
labels:
  {{- include "twhin.labels" . | nindent 2 }}
  app.kubernetes.io/component: preparing
env:
  - {name: TMPDIR, value: /shared}
{{- with .Values.preparing.secret }}
envFrom: [{secretRef: {name: {{ . }}}}]
{{- end }}
volumeMounts:
  - {name: graph, mountPath: /graph, readOnly: true}
  - {name: shared, mountPath: /shared}
# The user is the image's: Spark's own has a name for it, which Hadoop asks for. The group may write to the claim.
podSecurityContext:
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
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
