{{- define "lbcore.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change: what selectors look at. Takes a list of the root and the component. */}}
{{- define "lbcore.selector" -}}
app.kubernetes.io/name: {{ default (index . 0).Chart.Name (index . 0).Values.nameOverride }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* The same as `kubectl get --selector` has it. */}}
{{- define "lbcore.selectorText" -}}
{{- $pairs := list -}}
{{- range $name, $value := include "lbcore.selector" . | fromYaml -}}
{{- $pairs = append $pairs (printf "%s=%s" $name $value) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}

{{- define "lbcore.labels" -}}
{{ include "lbcore.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
{{- end -}}

{{- define "lbcore.account" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- $own := printf "%s-%s" (include "lbcore.fullname" (index . 0)) (index . 1) -}}
{{- if $values.serviceAccount.create -}}
{{- default $own $values.serviceAccount.name -}}
{{- else -}}
{{- default "default" $values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What Pods of both components have in common, from their values. */}}
{{- define "lbcore.placement" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- with (index . 0).Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
nodeSelector:
  kubernetes.io/os: linux
{{- with $values.nodeSelector }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end -}}

{{- define "lbcore.podMetadata" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
labels:
{{ include "lbcore.labels" . | indent 2 }}
{{- with $values.labels }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- if or $values.podAnnotations $root.Values.prometheus.scrapeAnnotations }}
annotations:
{{- if $root.Values.prometheus.scrapeAnnotations }}
  prometheus.io/scrape: "true"
  prometheus.io/port: {{ $root.Values.prometheus.metricsPort | quote }}
{{- end }}
{{- with $values.podAnnotations }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "lbcore.image" -}}
{{- $image := (index (index . 0).Values (index . 1)).image -}}
image: {{ printf "%s:%s" $image.repository (default (index . 0).Chart.AppVersion $image.tag) | quote }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end -}}

{{- define "lbcore.probes" -}}
ports:
  - name: metrics
    containerPort: {{ (index . 0).Values.prometheus.metricsPort }}
  {{- if and (eq (index . 1) "controller") (index . 0).Values.webhook.enabled }}
  - name: webhook
    containerPort: {{ (index . 0).Values.webhook.port }}
  {{- end }}
  {{- if and (eq (index . 1) "speaker") (index . 0).Values.speaker.memberlist.enabled }}
  # On the node's network: no Pod is put where another one has them.
  - {name: memberlist-tcp, containerPort: {{ (index . 0).Values.speaker.memberlist.mlBindPort }}, protocol: TCP}
  - {name: memberlist-udp, containerPort: {{ (index . 0).Values.speaker.memberlist.mlBindPort }}, protocol: UDP}
  {{- end }}
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  initialDelaySeconds: 10
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
{{- end -}}

{{- define "lbcore.webhook" -}}
{{ include "lbcore.fullname" . }}-webhook
{{- end -}}

{{/* The Secret with its certificate. */}}
{{- define "lbcore.webhookSecret" -}}
{{ default (include "lbcore.webhook" .) .Values.webhook.certificate.secretName }}
{{- end -}}
