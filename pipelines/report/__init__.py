"""Pictures, the HTML report and the data set card: what a person looks at before and after a build."""
