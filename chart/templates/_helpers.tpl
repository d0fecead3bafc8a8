{{/* Names, labels, and the pod that all three workloads share. */}}

{{/*
Every object is named after the release, so that two releases live side by side.
50 characters leave room for the longest suffix (-post-install) in a label of 63.
*/}}
{{- define "counter.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "counter.headlessName" -}}
{{ include "counter.name" . }}-headless
{{- end }}

{{- define "counter.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (ternary (include "counter.name" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "counter.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/*
What the workload and the services select by: few labels, as a StatefulSet's selector can't be changed.
The component is in, so that neither a hook's pod nor a workload of another kind is taken for one of these.
*/}}
{{- define "counter.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .Values.workload }}
{{- end }}

{{/* Labels of an object: {{ include "counter.labels" (list . "hook") }}. */}}
{{- define "counter.labels" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
app.kubernetes.io/version: {{ $root.Values.image.tag | default $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end }}

{{/* The chart's version stays out of the pods' labels: a new chart alone is no reason to restart them. */}}
{{- define "counter.objectLabels" -}}
{{ include "counter.labels" . }}
helm.sh/chart: {{ printf "%s-%s" (first .).Chart.Name (first .).Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The pod template of the StatefulSet, the Deployment and the Rollout. They differ in where /data comes from. */}}
{{- define "counter.podTemplate" -}}
{{- range .Values.extraEnv }}
{{- if has .name (list "LISTEN" "DATA_DIR" "POD_NAME" "REVISION") }}
{{- fail (printf "extraEnv: %s is set by the chart itself" .name) }}
{{- end }}
{{- end -}}
metadata:
  labels:
    {{- include "counter.labels" (list . .Values.workload) | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "counter.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: counter
      image: {{ include "counter.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      env:
        - name: LISTEN
          value: "0.0.0.0:{{ .Values.containerPort }}"
        - name: DATA_DIR
          value: /data
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: REVISION
          value: {{ .Values.revision | quote }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: {{ .Values.containerPort }}
      {{- with .Values.probes.readiness }}
      readinessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.probes.liveness }}
      livenessProbe:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - name: visits
          mountPath: /data
        - name: tmp
          mountPath: /tmp
  volumes:
    - name: tmp
      emptyDir: {}
    {{- if not .Values.persistence.enabled }}
    - name: visits
      emptyDir: {}
    {{- else if ne .Values.workload "statefulset" }}
    - name: visits
      persistentVolumeClaim:
        claimName: visits-{{ include "counter.name" . }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.topologySpread }}
  topologySpreadConstraints:
    {{- $ours := dict "labelSelector" (dict "matchLabels" (include "counter.selectorLabels" $ | fromYaml)) }}
    {{- range . }}
    - {{- toYaml (merge (dict) . (deepCopy (ternary (dict) $ours (hasKey . "labelSelector")))) | nindent 6 }}
    {{- end }}
  {{- end }}
{{- end }}

{{/* What a claim asks for: the set's claim template, or the one claim of a Deployment or a Rollout. */}}
{{- define "counter.claimSpec" -}}
accessModes:
  {{- toYaml .Values.persistence.accessModes | nindent 2 }}
{{- with .Values.persistence.storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .Values.persistence.size }}
{{- end }}

{{/* A pod that asks a question in a shell and ends: {{ include "counter.askingPod" (list . $script) }}. */}}
{{- define "counter.askingPod" -}}
{{- $root := first . -}}
automountServiceAccountToken: false
enableServiceLinks: false
restartPolicy: Never
terminationGracePeriodSeconds: 1
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: ask
    image: {{ include "counter.image" $root }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    command:
      - /bin/sh
      - -euc
      - |
        {{- last . | trim | nindent 8 }}
    {{- with $root.Values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $root.Values.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
