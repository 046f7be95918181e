{{- define "ingress.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 48 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 48 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change: what selectors look at. Takes a list of the root and the component. */}}
{{- define "ingress.selector" -}}
app.kubernetes.io/name: {{ default (index . 0).Chart.Name (index . 0).Values.nameOverride }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "ingress.labels" -}}
{{ include "ingress.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
{{- end -}}

{{- define "ingress.account" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "ingress.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "ingress.election" -}}
{{- default (printf "%s-leader" (include "ingress.fullname" .)) .Values.controller.electionID -}}
{{- end -}}

{{/* The namespace that alone is served; empty: all. */}}
{{- define "ingress.scope" -}}
{{- if or .Values.controller.scope.enabled .Values.rbac.scope -}}
{{- default .Release.Namespace .Values.controller.scope.namespace -}}
{{- end -}}
{{- end -}}

{{/* Whether Ingresses show the addresses of nodes: not empty if so. */}}
{{- define "ingress.nodes" -}}
{{- $controller := .Values.controller -}}
{{- $service := and $controller.publishService.enabled (or $controller.service.enabled $controller.publishService.pathOverride) -}}
{{- if not (or $service (hasKey $controller.extraArgs "publish-service") (hasKey $controller.extraArgs "publish-status-address")) -}}
nodes
{{- end -}}
{{- end -}}
